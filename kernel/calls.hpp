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

#define AIOS_CALL(M)                                       \
  Result<proto::kernel::M::Reply> handle(proto::kernel::M, \
                                         const proto::kernel::M::Request& request, Caller& caller)
  AIOS_CALL(Hello);
  AIOS_CALL(Ready);
  AIOS_CALL(Startup);
  AIOS_CALL(SignalNext);
  AIOS_CALL(HandleDuplicate);
  AIOS_CALL(HandleKeep);
  AIOS_CALL(HandleClose);
  AIOS_CALL(HandleInfo);
  AIOS_CALL(JobCreate);
  AIOS_CALL(JobKill);
  AIOS_CALL(JobInfo);
  AIOS_CALL(ProcessSpawn);
  AIOS_CALL(ProcessSignal);
  AIOS_CALL(ProcessInfo);
  AIOS_CALL(ProcessNext);
  AIOS_CALL(ProcessOpen);
  AIOS_CALL(SpawnerCreate);
  AIOS_CALL(SpawnerSpawn);
  AIOS_CALL(RegionCreate);
  AIOS_CALL(RegionMap);
  AIOS_CALL(RegionNext);
  AIOS_CALL(FileCreate);
  AIOS_CALL(FileOpen);
  AIOS_CALL(PortCreate);
  AIOS_CALL(PortPublish);
  AIOS_CALL(PortConnect);
  AIOS_CALL(PortAccept);
  AIOS_CALL(LinkReady);
  AIOS_CALL(LinkSend);
  AIOS_CALL(LinkNext);
  AIOS_CALL(InstanceShutdown);
  AIOS_CALL(InstanceInfo);
#undef AIOS_CALL

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
