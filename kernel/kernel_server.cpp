#include "kernel/kernel_server.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "abi/runtime/log.hpp"
#include "abi/runtime/socket.hpp"
#include "kernel/limits.hpp"

namespace aios::kernel {

namespace {

// What an epoll event names: a process's id and which of its descriptors, or one of the few others.
constexpr std::uint64_t pidfd_bit = 1ull << 63;
constexpr std::uint64_t listener_tag = 1ull << 62;
constexpr std::uint64_t signal_tag = listener_tag + 1;
constexpr std::uint64_t closer_tag = listener_tag + 2;

Result<void> epoll_set(const Fd& epoll, int operation, const Fd& fd, std::uint32_t events,
                       std::uint64_t tag) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll.get(), operation, fd.get(), &event) != 0)
    return errno_error("watch descriptor", errno);
  return {};
}

/// False when the other end is gone, or lets its replies pile up.
bool send_now(const Fd& socket, const Packet& packet, std::span<const Fd> fds) {
  std::vector<int> numbers;
  for (const Fd& fd : fds) numbers.push_back(fd.get());
  return send_packet(socket.get(), {packet.bytes.data(), packet.size}, numbers, MSG_DONTWAIT)
      .has_value();
}

}  // namespace

Result<std::unique_ptr<KernelServer>> KernelServer::create(Settings settings) {
  std::error_code failed;
  std::filesystem::create_directories(settings.state / "logs", failed);
  if (failed)
    return errno_error("make folder " + (settings.state / "logs").string(), failed.value());
  settings.state = std::filesystem::canonical(settings.state, failed);
  if (failed) return errno_error("resolve the state folder", failed.value());
  Fd lock = TRY(sys::lock_folder(settings.state));
  auto server = std::make_unique<KernelServer>(std::move(settings));
  server->lock_ = std::move(lock);
  TRY(server->open());
  return server;
}

KernelServer::KernelServer(Settings settings)
    : state_(settings.state), instance_(std::move(settings), *this), calls_(instance_) {}

KernelServer::~KernelServer() {
  instance_.kill_all();
  close_channels();
  for (const sys::Child& closer : closers_) {
    (void)sys::wait_exit(closer.pidfd, Deadline::after(limits::reap_timeout_ns));
    sys::ExitStatus status;
    sys::reap(closer.pidfd, status);
  }
  if (listener_.valid()) ::unlink((state_ / "aios.sock").c_str());
}

Result<void> KernelServer::open() {
  spare_ = sys::open_null();
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return errno_error("make epoll", errno);
  signals_ = TRY(sys::make_signal_fd());
  TRY(epoll_set(epoll_, EPOLL_CTL_ADD, signals_, EPOLLIN, signal_tag));
  listener_ = TRY(sys::listen_at(state_ / "aios.sock"));
  TRY(epoll_set(epoll_, EPOLL_CTL_ADD, listener_, EPOLLIN, listener_tag));
  return instance_.start_supervisor();
}

int KernelServer::run() {
  log_line("serving " + state_.string() + ", pid " + std::to_string(::getpid()));
  while (!instance_.finished()) turn();
  const int code = *instance_.finished();
  log_line(code == 0 ? "stopped" : "stopped because of an error");
  return code;
}

// ---- one turn -------------------------------------------------------------------------------

int KernelServer::timeout_ms() const {
  if (calls_.has_slices() || !instance_.registry.released.empty()) return 0;
  if (!held_back_.empty()) return limits::unread_reply_recheck_ms;
  const auto& deadline = instance_.shutdown_deadline();
  return deadline ? deadline->poll_timeout_ms() : -1;
}

void KernelServer::turn() {
  std::array<epoll_event, limits::events_per_turn> events{};
  const int count =
      ::epoll_wait(epoll_.get(), events.data(), limits::events_per_turn, timeout_ms());
  for (int i = 0; i < count && !instance_.finished(); ++i)
    on_event(events[static_cast<std::size_t>(i)].data.u64,
             events[static_cast<std::size_t>(i)].events);
  recheck_held_back();
  do_slice();
  close_channels();
  if (const auto& deadline = instance_.shutdown_deadline(); deadline && deadline->passed())
    instance_.hurry_shutdown();
}

void KernelServer::on_event(std::uint64_t tag, std::uint32_t events) {
  if (tag == listener_tag) return on_connection();
  if (tag == signal_tag) return on_signal();
  if (tag == closer_tag) return reap_closers();
  const auto found = instance_.registry.processes.find(tag & ~pidfd_bit);
  if (found == instance_.registry.processes.end()) return;  // gone earlier in this turn
  const auto process = found->second;
  if ((tag & pidfd_bit) != 0)
    instance_.bury(process);
  else
    on_socket(process, events);
}

void KernelServer::on_connection() {
  auto socket = sys::accept_from(listener_);
  if (!socket) {
    // No descriptor is left: refuse this one, or the listener would report it for ever.
    spare_.reset();
    socket = sys::accept_from(listener_);
    if (socket) socket->reset();
    spare_ = sys::open_null();
    return;
  }
  if (!socket->valid()) return;
  const auto copy = socket->duplicate();
  if (auto attached = instance_.attach(std::move(*socket)); !attached && copy) {
    Packet packet;
    write_reply(packet, 0, Result<proto::Empty>(std::unexpected(attached.error())), 0);
    (void)send_now(*copy, packet, {});
  }
}

void KernelServer::on_signal() {
  while (sys::take_signal(signals_) != 0) {
    if (!instance_.shutdown_deadline())
      instance_.begin_shutdown();
    else
      instance_.hurry_shutdown();
  }
}

// ---- processes ------------------------------------------------------------------------------

Result<void> KernelServer::watch(Process& process) {
  TRY(epoll_set(epoll_, EPOLL_CTL_ADD, process.socket, EPOLLIN | EPOLLRDHUP, process.id()));
  if (process.pidfd.valid())
    TRY(epoll_set(epoll_, EPOLL_CTL_ADD, process.pidfd, EPOLLIN, process.id() | pidfd_bit));
  return {};
}

void KernelServer::unwatch_socket(Process& process) {
  // Explicitly: a clone that has not executed yet may hold the same open file.
  if (process.socket.valid())
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, process.socket.get(), nullptr);
  held_back_.erase(process.id());
}

void KernelServer::unwatch(Process& process) {
  unwatch_socket(process);
  if (process.pidfd.valid()) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, process.pidfd.get(), nullptr);
}

void KernelServer::on_socket(const std::shared_ptr<Process>& process, std::uint32_t events) {
  // A pipelined call may lie before the end of the connection; nobody would read its reply.
  if ((events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0) return instance_.disconnect(*process);
  serve_call(*process);
}

void KernelServer::serve_call(Process& process) {
  if (calls_.is_waiting(process) || !sys::all_read(process.socket)) {
    // It pipelines: look again later, and not at its socket, which would report it for ever.
    held_back_.insert(process.id());
    return listen_for_calls(process, false);
  }
  std::array<std::byte, proto::kernel::max_packet_bytes> buffer;
  const auto size = sys::receive(process.socket, buffer);
  if (!size && size.error().code() == Code::busy) return;
  if (!size || *size == 0) return instance_.disconnect(process);
  const auto self = process.shared_from_this();
  Caller caller{.process = process, .call_id = 0};
  Packet reply;
  // A packet that was cut has a wrong length, whatever its first bytes say.
  const std::size_t kept = *size <= buffer.size() ? *size : 0;
  const auto outcome = calls_.serve(caller, {buffer.data(), kept}, reply);
  if (outcome != Calls::Outcome::deferred) send_reply(process, reply, caller.fds);
  if (outcome == Calls::Outcome::malformed && process.alive()) instance_.disconnect(process);
}

void KernelServer::send_reply(Process& process, const Packet& packet, std::span<const Fd> fds) {
  if (!process.alive() || !process.socket.valid()) return;
  if (!send_now(process.socket, packet, fds)) instance_.disconnect(process);
}

void KernelServer::listen_for_calls(Process& process, bool wanted) {
  const std::uint32_t events = EPOLLRDHUP | (wanted ? EPOLLIN : 0u);
  if (!epoll_set(epoll_, EPOLL_CTL_MOD, process.socket, events, process.id()))
    instance_.disconnect(process);
}

void KernelServer::recheck_held_back() {
  const auto ids = held_back_;
  for (const std::uint64_t id : ids) {
    const auto found = instance_.registry.processes.find(id);
    if (found == instance_.registry.processes.end()) {
      held_back_.erase(id);
      continue;
    }
    const auto process = found->second;
    if (calls_.is_waiting(*process) || !sys::all_read(process->socket)) continue;
    held_back_.erase(id);
    listen_for_calls(*process, true);
  }
}

// ---- long work ------------------------------------------------------------------------------

void KernelServer::do_slice() {
  auto& released = instance_.registry.released;
  if (!released.empty()) {
    // Given back before anything is allocated: what is used never exceeds what is charged.
    ReleasedMemory& oldest = released.front();
    const std::uint64_t slice = std::min(limits::slice_bytes, oldest.size_bytes);
    oldest.size_bytes -= slice;
    sys::deallocate(oldest.file, oldest.size_bytes, slice);
    if (oldest.size_bytes == 0) released.pop_front();
    return;
  }
  if (!calls_.has_slices()) return;
  if (const auto finished = calls_.fill_slice())
    send_reply(*finished->process, finished->reply, {});
}

void KernelServer::close_channels() {
  auto& channels = instance_.registry.released_channels;
  for (; !channels.empty(); channels.pop_front()) {
    auto closer = sys::close_in_child(std::move(channels.front()));
    if (!closer) continue;
    (void)epoll_set(epoll_, EPOLL_CTL_ADD, closer->pidfd, EPOLLIN, closer_tag);
    closers_.push_back(std::move(*closer));
  }
}

void KernelServer::reap_closers() {
  std::erase_if(closers_, [](const sys::Child& closer) {
    sys::ExitStatus status;
    return sys::reap(closer.pidfd, status);
  });
}

}  // namespace aios::kernel
