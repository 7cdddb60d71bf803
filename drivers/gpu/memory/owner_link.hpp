// Connects a context to the process that owns device memory for its tenant, and again when that has
// died and is back.
#pragma once

#include <functional>

#include "abi/runtime/client.hpp"
#include "abi/runtime/event_loop.hpp"
#include "drivers/gpu/memory/kept_memory.hpp"

namespace aios::gpu {

class OwnerLink {
 public:
  /// `port`: a connect handle. All of them outlive this object.
  OwnerLink(aios::Kernel& kernel, EventLoop& loop, Handle port, KeptMemory& memory);
  OwnerLink(const OwnerLink&) = delete;
  ~OwnerLink();

  /// Calls `then` once, from the loop: when the owner has answered, or after `limit_ns`. It may
  /// still answer later.
  void connect(std::uint64_t limit_ns, std::function<void()> then);

 private:
  void attach();
  void go_on();
  void attached(Fd channel, const Result<proto::memory::Attach::Reply>& reply);

  aios::Kernel& kernel_;
  EventLoop& loop_;
  KeptMemory& memory_;
  std::function<void()> then_;
  bool attached_ = false;
  bool told_ = false;  ///< in the log, that there is no owner
  TimerId limit_ = 0;
  TimerId retry_ = 0;
  Client client_;  // last: its end calls back
};

}  // namespace aios::gpu
