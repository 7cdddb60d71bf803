// The process that owns a tenant's memory on one device: made here, lent to the tenant's context as
// descriptors, and still there for the next context when that one has died. It has no context on
// the device itself, so no kernel's fault reaches it.
#pragma once

#include <memory>

#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/server.hpp"
#include "drivers/gpu/memory/owned_memory.hpp"

namespace aios::gpu {

class MemoryOwner {
 public:
  /// At most `limit_bytes` of the device. `maker` outlives it.
  static Result<std::unique_ptr<MemoryOwner>> create(aios::Kernel& kernel, EventLoop& loop,
                                                     MemoryMaker& maker, std::uint64_t limit_bytes);
  MemoryOwner(const MemoryOwner&) = delete;
  ~MemoryOwner();

  /// Ends the process, in order, when there was no context for this long; frees what a new context
  /// has not taken after as long.
  void end_when_unused(std::uint64_t after_ns);

  Answer<proto::memory::Attach::Reply> handle(proto::memory::Attach,
                                              const proto::memory::Attach::Request& request,
                                              CallContext& call);

 private:
  MemoryOwner(aios::Kernel& kernel, EventLoop& loop, Region ledger, MemoryMaker& maker,
              std::uint64_t limit_bytes)
      : kernel_(kernel),
        loop_(loop),
        ledger_(std::move(ledger)),
        memory_(maker, reinterpret_cast<proto::memory::Ledger*>(ledger_.data())->contents,
                limit_bytes) {}
  void serve();
  void part();
  void watch_use();
  Result<Fd> answer(const proto::memory::AllocationRequest& request,
                    proto::memory::AllocationReply& reply);
  Result<Fd> share_ledger();

  aios::Kernel& kernel_;
  EventLoop& loop_;
  Region ledger_;
  OwnedMemory memory_;
  Fd channel_;  ///< to the context
  std::uint64_t unused_ns_ = 0;
  TimerId unused_timer_ = 0;
};

}  // namespace aios::gpu
