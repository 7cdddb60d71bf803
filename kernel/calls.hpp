// The calls of kernel.hpp, one function each. A call works on copies of checked bytes, changes
// kernel objects, and returns its reply; it never waits. The functions are grouped by object into
// calls_*.cpp; the event loop (kernel_server) feeds them packets.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "abi/proto/kernel.hpp"
#include "kernel/instance.hpp"
#include "kernel/link.hpp"

namespace aios::kernel {

/// What a call is made with and what rides with its reply.
struct Caller {
  Process& process;
  std::uint64_t call_id;
  std::vector<Fd> fds{};
  bool deferred = false;  ///< the reply comes later
};

/// A reply as it goes on the wire.
struct Packet {
  alignas(8) std::array<std::byte, proto::kernel::max_packet_bytes> bytes;
  std::size_t size = 0;
};

/// The function that serves method `M`: here declared, in calls_*.cpp defined with `Calls::`.
#define KERNEL_CALL(M, ...)                                                        \
  Result<proto::kernel::M::Reply> __VA_ARGS__ handle(                              \
      proto::kernel::M, [[maybe_unused]] const proto::kernel::M::Request& request, \
      [[maybe_unused]] Caller& caller)

class Calls {
 public:
  explicit Calls(Instance& instance) : instance_(instance) {}

  enum class Outcome {
    replied,    ///< `reply` is to be sent with the caller's fds
    deferred,   ///< nothing to send yet
    malformed,  ///< `reply` is to be sent, then the connection is to be closed
  };
  /// Serves one packet.
  Outcome serve(Caller& caller, std::span<const std::byte> packet, Packet& reply);

  // ---- regions in the making ----
  bool has_slices() const { return !filling_.empty(); }
  struct Finished {
    std::shared_ptr<Process> process;
    Packet reply;
  };
  /// Allocates one slice of the oldest; its reply when that was the last one.
  std::optional<Finished> fill_slice();
  /// Whether the process waits for a deferred reply.
  bool is_waiting(const Process& process) const;

 private:
  template <class M>
  Outcome serve_method(Caller& caller, std::span<const std::byte> request, Packet& reply);

  KERNEL_CALL(Hello);
  KERNEL_CALL(Ready);
  KERNEL_CALL(Startup);
  KERNEL_CALL(SignalNext);
  KERNEL_CALL(HandleDuplicate);
  KERNEL_CALL(HandleKeep);
  KERNEL_CALL(HandleClose);
  KERNEL_CALL(HandleInfo);
  KERNEL_CALL(JobCreate);
  KERNEL_CALL(JobKill);
  KERNEL_CALL(JobInfo);
  KERNEL_CALL(ProcessSpawn);
  KERNEL_CALL(ProcessSignal);
  KERNEL_CALL(ProcessInfo);
  KERNEL_CALL(ProcessNext);
  KERNEL_CALL(ProcessOpen);
  KERNEL_CALL(SpawnerCreate);
  KERNEL_CALL(SpawnerSpawn);
  KERNEL_CALL(RegionCreate);
  KERNEL_CALL(RegionMap);
  KERNEL_CALL(RegionNext);
  KERNEL_CALL(FileCreate);
  KERNEL_CALL(FileOpen);
  KERNEL_CALL(PortCreate);
  KERNEL_CALL(PortPublish);
  KERNEL_CALL(PortConnect);
  KERNEL_CALL(PortAccept);
  KERNEL_CALL(LinkReady);
  KERNEL_CALL(LinkSend);
  KERNEL_CALL(LinkNext);
  KERNEL_CALL(InstanceShutdown);
  KERNEL_CALL(InstanceInfo);

  /// The slot named by `handle` when it may be passed on with these masks. bad_handle; denied.
  static Result<Slot*> sendable(Process& process, Handle handle, std::uint32_t use,
                                std::uint32_t grant);
  static Result<std::vector<Instance::StartupReference>> startup_references(
      Process& process, std::span<const proto::kernel::SpawnHandle> handles);
  /// Starts the child and gives its handle to the caller.
  Result<proto::kernel::ProcessSpawn::Reply> spawn_for(Process& process,
                                                       Instance::SpawnRequest request);
  static Result<void> give_link_fds(Caller& caller, const LinkEnd& end);

  struct Filling {
    std::weak_ptr<Process> process;
    std::uint64_t call_id;
    std::shared_ptr<Region> region;
  };
  Instance& instance_;
  std::deque<Filling> filling_;
};

/// ok and the method's reply, or the error's code and text.
template <class Reply>
void write_reply(Packet& packet, std::uint64_t call_id, const Result<Reply>& result,
                 std::size_t fd_count) {
  proto::kernel::KernelReply head{};
  head.call_id = call_id;
  head.fd_count = static_cast<std::uint32_t>(fd_count);
  if (!result) {
    head.status = static_cast<std::uint32_t>(result.error().code());
    head.text = decltype(head.text)::from(result.error().message());
  }
  std::memcpy(packet.bytes.data(), &head, sizeof head);
  packet.size = sizeof head;
  if (!result) return;
  std::memcpy(packet.bytes.data() + sizeof head, &*result, sizeof(Reply));
  packet.size += sizeof(Reply);
}

}  // namespace aios::kernel
