#include "kernel/kernel_server.hpp"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "abi/runtime/folder_lock.hpp"
#include "abi/runtime/log.hpp"
#include "abi/runtime/signals.hpp"
#include "abi/runtime/socket.hpp"

namespace aios::kernel {

namespace {

// Tags of epoll events beside those of Instance.
constexpr std::uint64_t listener_tag = 1ull << 62;
constexpr std::uint64_t signal_tag = listener_tag + 1;

}  // namespace

Result<std::unique_ptr<KernelServer>> KernelServer::create(Settings settings) {
  std::error_code failed;
  std::filesystem::create_directories(settings.state / "logs", failed);
  if (!failed) settings.state = std::filesystem::canonical(settings.state, failed);
  if (failed) return errno_error("make folder " + settings.state.string(), failed.value());
  if (settings.socket.empty()) settings.socket = settings.state / "aios.sock";
  Fd lock = TRY(lock_folder(settings.state));
  auto server = std::make_unique<KernelServer>(std::move(settings), std::move(lock));
  server->signals_ = TRY(make_signal_fd({SIGINT, SIGTERM}));
  TRY(sys::watch(server->epoll_, server->signals_, EPOLLIN, signal_tag));
  server->listener_ = TRY(listen_seqpacket(server->instance_.settings.socket));
  TRY(sys::watch(server->epoll_, server->listener_, EPOLLIN, listener_tag));
  TRY(server->instance_.start_supervisor());
  return server;
}

KernelServer::KernelServer(Settings settings, Fd lock)
    : lock_(std::move(lock)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      spare_(sys::open_null()),
      instance_(std::move(settings), epoll_),
      calls_(instance_, std::bind_front(&KernelServer::send_reply, this)) {}

KernelServer::~KernelServer() {
  if (listener_.valid()) ::unlink(instance_.settings.socket.c_str());
}

int KernelServer::run() {
  log_line("serving at " + instance_.settings.socket.string() + ", pid " +
           std::to_string(::getpid()));
  while (!instance_.finished()) turn();
  log_line(*instance_.finished() == 0 ? "stopped" : "stopped because of an error");
  return *instance_.finished();
}

int KernelServer::timeout_ms() const {
  if (can_do_slice()) return 0;
  if (!held_back_.empty()) return limits::unread_reply_recheck_ms;
  const auto& deadline = instance_.shutdown_deadline();
  return deadline ? deadline->poll_timeout_ms() : -1;
}

void KernelServer::turn() {
  std::array<epoll_event, limits::events_per_turn> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), timeout_ms());
  for (const epoll_event& event :
       std::span(events).first(static_cast<unsigned>(std::max(count, 0))))
    if (!instance_.finished()) on_event(event.data.u64, event.events);
  recheck_held_back();
  if (can_do_slice()) do_slice();
  instance_.remove_groups();
  for (auto& sockets = instance_.registry.released_sockets; !sockets.empty(); sockets.pop_front())
    if (auto child = sys::close_in_child(std::move(sockets.front())))
      instance_.add_helper(std::move(*child), [](const sys::ExitStatus&) {});
  if (const auto& deadline = instance_.shutdown_deadline(); deadline && deadline->passed())
    instance_.hurry_shutdown();
}

void KernelServer::on_event(std::uint64_t tag, std::uint32_t events) {
  if (tag == listener_tag) return on_connection();
  if (tag == signal_tag) {
    while (take_signal(signals_) != 0)
      instance_.shutdown_deadline() ? instance_.hurry_shutdown() : instance_.begin_shutdown();
    return;
  }
  const std::uint64_t id = tag & ~Instance::pidfd_bit;
  const auto found = instance_.registry.processes.find(id);
  if (found == instance_.registry.processes.end()) return instance_.end_helper(id);
  const auto process = found->second;
  if ((tag & Instance::pidfd_bit) != 0)
    instance_.bury(process);
  else if ((events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0)
    instance_.disconnect(*process);  // calls that lie before the end: nobody reads their replies
  else
    serve_call(*process);
}

void KernelServer::on_connection() {
  auto socket = accept_seqpacket(listener_);
  if (!socket) {
    // No descriptor is left: refuse this one, or the listener would report it for ever.
    spare_.reset();
    (void)accept_seqpacket(listener_);
    spare_ = sys::open_null();
    return;
  }
  if (!socket->valid()) return;
  const auto copy = socket->duplicate();
  if (auto attached = instance_.attach(std::move(*socket)); !attached && copy) {
    const Result<proto::Empty> refused = std::unexpected(attached.error());
    stop_receiving(copy->get());
    (void)send_packet(copy->get(), make_reply(0, refused), {}, MSG_DONTWAIT);
  }
}

void KernelServer::serve_call(Process& process) {
  if (process.awaited_call || !all_read(process.socket)) {
    // It pipelines: look again later, and not at its socket, which would report it for ever.
    held_back_.push_back(process.weak_from_this());
    return instance_.listen_for_calls(process, false);
  }
  std::array<std::byte, wire::max_packet_bytes> buffer;
  ReceivedPacket packet;
  const auto received = receive_packet(process.socket.get(), buffer, MSG_DONTWAIT, packet);
  if (!received && received.error().code() == Code::busy) return;
  if (!received) return instance_.disconnect(process);
  for (Fd& stray : packet.fds) instance_.registry.released_sockets.push_back(std::move(stray));
  // One that was cut, or came with descriptors, is malformed whatever its first bytes say.
  const std::size_t size = packet.truncated || !packet.fds.empty() ? 0 : packet.bytes;
  if (!calls_.serve(process, {buffer.data(), size})) instance_.disconnect(process);
}

Result<void> KernelServer::send_reply(Process& process, const Packet& packet,
                                      std::span<const Fd> fds) {
  std::vector<int> numbers;
  for (const Fd& fd : fds) numbers.push_back(fd.get());
  auto sent = send_packet(process.socket.get(), packet, numbers, MSG_DONTWAIT);
  // Otherwise the other end is gone, or lets its replies pile up.
  if (!sent && sent.error().code() != Code::quota) instance_.disconnect(process);
  return sent;
}

void KernelServer::recheck_held_back() {
  std::erase_if(held_back_, [this](const std::weak_ptr<Process>& held_back) {
    const auto process = held_back.lock();
    if (process == nullptr || !process->socket.valid()) return true;
    if (process->awaited_call || !all_read(process->socket)) return false;
    instance_.listen_for_calls(*process, true);
    return true;
  });
}

bool KernelServer::can_do_slice() const {
  return !freeing_ && (calls_.has_slices() || !instance_.registry.released.empty());
}

void KernelServer::do_slice() {
  auto& released = instance_.registry.released;
  if (released.empty()) return calls_.fill_slice();
  // Given back before anything is allocated: what is used never exceeds what is charged.
  ReleasedMemory& oldest = released.front();
  const std::uint64_t slice = std::min(limits::slice_bytes, oldest.size_bytes);
  oldest.size_bytes -= slice;
  const bool given_back = sys::deallocate(oldest.file, oldest.size_bytes, slice);
  if (given_back && oldest.size_bytes != 0) return;
  Fd file = std::move(oldest.file);
  released.pop_front();
  if (given_back) return;
  auto child = sys::close_in_child(std::move(file));
  if ((freeing_ = child.has_value()))
    instance_.add_helper(std::move(*child), [this](const auto&) { freeing_ = false; });
}

}  // namespace aios::kernel
