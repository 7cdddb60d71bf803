// The CPU driver's side of the device protocol: one device, and contexts on it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "abi/proto/device.hpp"
#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/kernel.hpp"
#include "abi/runtime/server.hpp"
#include "drivers/cpu/context_table.hpp"
#include "drivers/cpu/tombstone.hpp"
#include "drivers/cpu/topology.hpp"
#include "drivers/device/owned_handle.hpp"

namespace aios::cpu {

class CpuServer {
 public:
  /// `spawner` starts contexts; all three outlive this object.
  CpuServer(Kernel& kernel, EventLoop& loop, Handle spawner, Topology topology);
  CpuServer(const CpuServer&) = delete;

  /// Where replies and handles go; before the first request.
  void answer_through(ServerBase& server) { server_ = &server; }
  /// Takes over the contexts that a former driver left.
  void adopt();

  Answer<proto::driver::Device::Reply> handle(proto::driver::Device,
                                              const proto::driver::Device::Request& request,
                                              CallContext& call);
  Answer<proto::driver::OpenContext::Reply> handle(
      proto::driver::OpenContext, const proto::driver::OpenContext::Request& request,
      CallContext& call);
  Answer<proto::driver::CloseContext::Reply> handle(
      proto::driver::CloseContext, const proto::driver::CloseContext::Request& request,
      CallContext& call);

 private:
  Result<device::OwnedHandle> take_tenant(Handle handle, std::uint64_t sender,
                                          std::uint64_t& job_id);
  Result<Context*> start(Handle tenant, std::uint64_t job_id);
  Result<Context> spawn(Handle tenant, std::uint64_t job_id, std::uint32_t generation);
  Result<void> keep(KeptPart part, const Context& context, Handle handle);
  void watch(const Context& context);
  void find_out_end(Context& context);
  void release(const Context& context);

  Kernel& kernel_;
  EventLoop& loop_;
  const Handle spawner_;
  const Topology topology_;
  ServerBase* server_ = nullptr;
  ContextTable contexts_;
  std::map<Handle, std::shared_ptr<Tombstone>> tombstones_;  // by port, of contexts that ended
};

}  // namespace aios::cpu
