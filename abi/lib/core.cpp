#include "abi/lib/core.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "abi/runtime/log.hpp"

namespace aios::lib {

namespace {

constexpr int turns_at_once = 16;

/// Grows in every forked child. What an attachment of another number owns is the parent's.
std::atomic<std::uint64_t> process_number = 1;
/// Of all attachments; held by the forking thread during a fork.
std::mutex attached_mutex;
/// Never destroyed: what a program frees last may be freed after static objects.
std::vector<const Core*>& attached = *new std::vector<const Core*>;

void before_fork() {
  attached_mutex.lock();
}
void after_fork_in_parent() {
  attached_mutex.unlock();
}
void after_fork_in_child() {
  process_number.fetch_add(1, std::memory_order_relaxed);
  Core::close_sockets_in_child();
  attached_mutex.unlock();
}

int register_fork_handlers() {
  return ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

}  // namespace

// ---- endpoints ------------------------------------------------------------------------------

std::uint64_t Endpoint::next_id() {
  static std::atomic<std::uint64_t> next = 1;
  return next.fetch_add(1, std::memory_order_relaxed);
}

void Endpoint::drive() {
  bool more = true;
  for (int turn = 0; more && turn < turns_at_once; ++turn) {
    more = work();
    // Looked at every time: the next connection may lie where the last one was.
    note_connection();
  }
  // What is left over, a sleeper may do.
  if (more) changed();
  settle();
}

void Endpoint::note_connection() {
  if (connection() == last_connection_) return;
  last_connection_ = connection();
  ++connections_;
  changed();
}

void Endpoint::settle() {
  note_connection();
  if (changed_) core_->tell(this);
  changed_ = false;
}

bool ClientEndpoint::work() {
  // Before it looks: a signal that comes meanwhile makes it look again.
  seen_signals_ = core().kernel().signal_count();
  // What is late ends all the same when there is no memory for the rest.
  try {
    const bool more = client->work();
    client->expire();
    return more;
  } catch (const std::bad_alloc&) {
    client->expire();
    throw;
  }
}

bool ClientEndpoint::ready() const {
  return client->ready() || (wants_signals() && seen_signals_ != core().kernel().signal_count());
}

int ClientEndpoint::bell_fd() const {
  return client->link() == nullptr ? -1 : client->link()->bell_fd();
}

void ClientEndpoint::drain_bell() {
  if (client->link() != nullptr) client->link()->drain_bell();
}

bool ClientEndpoint::wants_signals() const {
  return client->link() != nullptr && !client->link()->open();
}

const void* ClientEndpoint::connection() const {
  return client->link();
}

std::uint64_t current_process() {
  return process_number.load(std::memory_order_relaxed);
}

// ---- the attachment -------------------------------------------------------------------------

Result<std::shared_ptr<Core>> Core::attach(const std::string& socket_path,
                                           const AttachOptions& options, bool may_spin) {
  static const int registered = register_fork_handlers();
  if (registered != 0) return errno_error("register for forks", registered);
  silence_log();
  std::shared_ptr<Core> core(new Core);
  core->kernel_ = TRY(Kernel::attach(socket_path, options));
  core->kernel_->on_bell_emptied([raw = core.get()] { raw->tell(nullptr); });
  core->socket_path_ = socket_path;
  core->job_name_ = options.job_name;
  core->may_spin_ = may_spin;
  core->process_ = current_process();
  const std::lock_guard lock(attached_mutex);
  attached.push_back(core.get());
  return core;
}

Core::~Core() {
  const std::lock_guard lock(attached_mutex);
  std::erase(attached, this);
}

bool Core::foreign() const {
  return process_ != current_process();
}

Result<void> Core::check_process() const {
  if (!foreign()) [[likely]]
    return {};
  return error(Code::bad_handle,
               "this was made before a fork and is the parent's; attach in the child");
}

void Core::close_sockets_in_child() {
  // Else the parent would seem to live on after its end, where only its socket tells. What is older
  // was closed by the fork that made it foreign.
  for (const Core* core : attached)
    if (core->process_ + 1 == current_process()) ::close(core->kernel().socket_fd());
}

bool Core::look_for_loss() {
  pollfd socket{kernel_->socket_fd(), POLLRDHUP, 0};
  if (::poll(&socket, 1, 0) > 0) lost_.store(true, std::memory_order_release);
  return lost();
}

std::unexpected<Status> Core::loss() {
  return error(Code::unreachable, "the AIOS instance has ended");
}

void Core::add(const std::shared_ptr<Endpoint>& endpoint) {
  const std::lock_guard lock(mutex_);
  std::erase_if(endpoints_, [](const auto& old) { return old.expired(); });
  endpoints_.push_back(endpoint);
}

std::vector<std::shared_ptr<Endpoint>> Core::endpoints() {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Endpoint>> alive;
  for (const auto& endpoint : endpoints_)
    if (auto shared = endpoint.lock()) alive.push_back(std::move(shared));
  return alive;
}

void Core::take_signals() {
  kernel_->drop_signals();
  tell(nullptr);
}

bool Core::claim(Handle handle) {
  const std::lock_guard lock(mutex_);
  return claimed_.insert(handle).second;
}

void Core::unclaim(Handle handle) {
  const std::lock_guard lock(mutex_);
  claimed_.erase(handle);
}

}  // namespace aios::lib
