// A driver's processes that own device memory: one for each tenant on each device whose memory can
// outlive a context. They outlive the driver as contexts do, and one that dies is started again,
// empty.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/kernel.hpp"
#include "drivers/device/context_table.hpp"
#include "drivers/device/owned_handle.hpp"

namespace aios::device {

class MemoryOwners {
 public:
  MemoryOwners(Kernel& kernel, EventLoop& loop, Handle spawner)
      : kernel_(kernel), loop_(loop), spawner_(spawner) {}
  MemoryOwners(const MemoryOwners&) = delete;

  /// Those that a former driver left.
  void adopt(const std::vector<KeptOwner>& owners);
  /// Where a context of `tenant` connects to its owner, which is started if there is none. 0: there
  /// can be none, and the log says why; contexts do without.
  Handle port(Handle tenant, ContextKey key, const std::vector<std::string>& arguments);
  /// By this handle it can be started again when it dies; closes it where that is not needed.
  void let_restart(ContextKey key, OwnedHandle tenant);
  /// Of one that may have none.
  void end(ContextKey key);

 private:
  struct Owner {
    Handle port = 0;
    Handle process = 0;  ///< 0: it has died and is to be started again
    std::optional<OwnedHandle> tenant;
    std::vector<std::string> arguments;
    std::uint32_t deaths = 0;
    TimerId restart = 0;
  };
  using Owners = std::map<ContextKey, Owner>;

  Result<void> add(Handle tenant, ContextKey key, const std::vector<std::string>& arguments);
  Result<void> start(ContextKey key, Owner& owner, Handle tenant);
  void watch(ContextKey key, Handle process);
  /// False: it is gone from the table.
  bool find_out_end(ContextKey key);
  void restart_later(ContextKey key, Owner& owner);
  void drop_process(ContextKey key, Owner& owner);
  void forget(ContextKey key);

  Kernel& kernel_;
  EventLoop& loop_;
  const Handle spawner_;
  Owners owners_;
};

}  // namespace aios::device
