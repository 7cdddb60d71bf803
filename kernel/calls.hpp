// The calls of kernel.hpp, one function each. A call works on copies of checked bytes, changes
// kernel objects, and returns its reply; it never waits. The functions are grouped by object into
// calls_*.cpp; the event loop (kernel_server) feeds them packets.
#pragma once

#include <cstring>
#include <span>

#include "kernel/instance.hpp"
#include "kernel/link.hpp"

namespace aios::kernel {

namespace wire = proto::kernel;

/// Who makes a call, and what rides with its reply.
struct Caller {
  Process& process;
  std::uint64_t call_id = 0;
  std::vector<Fd> fds{};
  Handle made = 0;  ///< closed again if the fds cannot be sent
};

/// A reply as it goes on the wire: ok and the method's reply, or the error's code and text.
using Packet = std::vector<std::byte>;
template <class Reply>
Packet make_reply(std::uint64_t call_id, const Result<Reply>& result, std::size_t fd_count = 0) {
  wire::KernelReply head{.fd_count = static_cast<std::uint32_t>(fd_count), .call_id = call_id};
  if (!result) {
    head.status = static_cast<std::uint32_t>(result.error().code());
    head.text = decltype(head.text)::from(result.error().message());
  }
  Packet packet(sizeof head + (result ? sizeof(Reply) : 0));
  std::memcpy(packet.data(), &head, sizeof head);
  if (result) std::memcpy(packet.data() + sizeof head, &*result, sizeof(Reply));
  return packet;
}

class Calls {
 public:
  using Send = std::function<Result<void>(Process&, const Packet&, std::span<const Fd>)>;
  /// `send` returns quota when so many descriptors of the process's user are unread that Linux
  /// takes no more; what else goes wrong it sees to.
  Calls(Instance& instance, Send send) : instance_(instance), send_(std::move(send)) {}

  /// Serves one packet: sends its reply, now or, while the process has an `awaited_call`, later.
  /// False after the last reply to one that is malformed: the connection is to be closed.
  bool serve(Process& process, std::span<const std::byte> packet);

  /// Whether regions are being filled.
  bool has_slices() const { return !filling_.empty(); }
  /// Allocates one slice of one of them.
  void fill_slice();

 private:
  template <class M>
  bool serve_method(Caller& caller, std::span<const std::byte> request);

  /// The function that serves method `M`: declared here, defined in calls_*.cpp with `Calls::`.
#define KERNEL_CALL(M, ...)                  \
  Result<wire::M::Reply> __VA_ARGS__ handle( \
      wire::M, [[maybe_unused]] const wire::M::Request& request, [[maybe_unused]] Caller& caller)
  // clang-format off
  KERNEL_CALL(Hello); KERNEL_CALL(Ready); KERNEL_CALL(Startup); KERNEL_CALL(SignalNext);
  KERNEL_CALL(HandleDuplicate); KERNEL_CALL(HandleKeep);
  KERNEL_CALL(HandleClose); KERNEL_CALL(HandleInfo);
  KERNEL_CALL(JobCreate); KERNEL_CALL(JobKill); KERNEL_CALL(JobInfo); KERNEL_CALL(JobNext);
  KERNEL_CALL(ProcessSpawn); KERNEL_CALL(ProcessSignal); KERNEL_CALL(ProcessInfo);
  KERNEL_CALL(ProcessNext); KERNEL_CALL(ProcessOpen);
  KERNEL_CALL(SpawnerCreate); KERNEL_CALL(SpawnerSpawn);
  KERNEL_CALL(RegionCreate); KERNEL_CALL(RegionMap); KERNEL_CALL(RegionNext);
  KERNEL_CALL(RegionFreeze);
  KERNEL_CALL(FileCreate); KERNEL_CALL(FileOpen);
  KERNEL_CALL(PortCreate); KERNEL_CALL(PortPublish); KERNEL_CALL(PortSetDown);
  KERNEL_CALL(PortConnect); KERNEL_CALL(PortAccept);
  KERNEL_CALL(LinkReady); KERNEL_CALL(LinkSend); KERNEL_CALL(LinkNext);
  KERNEL_CALL(InstanceShutdown); KERNEL_CALL(InstanceInfo);
  KERNEL_CALL(InstanceConfigure);
  // clang-format on

  /// A reference to pass on with these masks. bad_handle; denied.
  static Result<Reference> sendable(Process& process, Handle handle, std::uint32_t use,
                                    std::uint32_t grant);
  /// A handle to a new object, with all rights of its type.
  template <class T>
  static Result<Handle> give(Process& process, std::shared_ptr<T> object) {
    return process.handles.install(
        Reference(std::move(object), T::handle_rights, T::handle_rights));
  }
  /// Fills in what both ways to spawn share, starts the child and gives its handle to the caller.
  template <class Request>
  Result<wire::ProcessSpawn::Reply> spawn_for(Process& process, const Request& request,
                                              Instance::SpawnRequest spawn);

  template <class Reply>
  void reply(const Caller& caller, const Result<Reply>& result) {
    const auto fds = std::span(caller.fds).first(result ? caller.fds.size() : 0);
    if (send_(caller.process, make_reply(caller.call_id, result, fds.size()), fds)) return;
    (void)caller.process.handles.close(caller.made);
    const Result<Reply> refused = error(Code::quota, "its user has too many descriptors unread");
    (void)send_(caller.process, make_reply(caller.call_id, refused), {});
  }
  /// To the call that the process has waited for.
  template <class Reply>
  void reply_later(Process& process, const Result<Reply>& result) {
    reply({process, *std::exchange(process.awaited_call, {})}, result);
  }

  Instance& instance_;
  Send send_;
  std::deque<std::pair<std::weak_ptr<Process>, std::shared_ptr<Region>>> filling_;  ///< creators
};

/// invalid_argument, with this text, unless `valid`.
inline Result<void> require(bool valid, const char* text) {
  if (!valid) return error(Code::invalid_argument, text);
  return {};
}
inline Result<void> require_label(const wire::Label& label) {
  return require(label.valid() && !label.view().empty(), "a label has 1 to 31 characters");
}

}  // namespace aios::kernel
