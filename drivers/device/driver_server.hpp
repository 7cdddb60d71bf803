// A driver's side of the device protocol, whatever its devices: what they are, and contexts on
// them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "abi/proto/device.hpp"
#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/kernel.hpp"
#include "abi/runtime/server.hpp"
#include "drivers/device/absence.hpp"
#include "drivers/device/context_table.hpp"
#include "drivers/device/memory_owners.hpp"
#include "drivers/device/owned_handle.hpp"
#include "drivers/device/tombstone.hpp"

namespace aios::device {

/// A device as its driver describes it.
struct DeviceDescription {
  std::string kind;     ///< "cpu", "gpu" or "xla"
  std::string backend;  ///< "cpu", "cuda", "opencl" or "pjrt"
  std::string uuid;     ///< the same after a reboot
  std::string model;    ///< as the machine names it
  std::uint32_t cores = 0;
  std::uint32_t threads = 1;      ///< tasks of one context that run at once
  std::uint32_t queue_depth = 0;  ///< that may lie in the device's own queue besides
  std::uint32_t numa_nodes = 1;
  bool emulated = false;
  bool own_memory = false;  ///< data is copied there and back
  std::uint64_t memory_bytes = 0;
  std::uint64_t cache_bytes = 0;
  std::string pci_address{};  ///< empty: none
  std::int32_t numa_node = proto::driver::no_numa_node;
  std::uint32_t peers = 0;  ///< bit i: device i of those described with it
  /// For the contexts on it.
  std::vector<std::string> context_arguments{};
  /// For the processes that own memory for those; empty: there are none.
  std::vector<std::string> memory_arguments{};
};

/// What a device does just now, as far as the host says.
struct Readings {
  std::optional<double> celsius;
  std::optional<double> busy;  ///< 0 to 1, of late
};

class DriverServer {
 public:
  /// `spawner` starts contexts, which are called `context_name`; all of them outlive this object.
  DriverServer(Kernel& kernel, EventLoop& loop, Handle spawner, std::string context_name)
      : kernel_(kernel),
        loop_(loop),
        spawner_(spawner),
        context_name_(std::move(context_name)),
        owners_(kernel, loop, spawner) {}
  DriverServer(const DriverServer&) = delete;

  /// Where replies and handles go; before the first request.
  void answer_through(ServerBase& server) { server_ = &server; }
  /// What was found. The first time takes over the contexts that a former driver left; those on
  /// devices that are gone are ended with their tenants. From then on a device is the same when its
  /// uuid is: one that is not named any more has failed until it is named again, and new ones come
  /// after those known.
  void set_devices(std::vector<DeviceDescription> devices);
  /// What was looked for and not found.
  void set_absent(std::vector<Absence> absent) { absent_ = std::move(absent); }
  bool any_failed() const;
  /// Asked whenever the device is listed.
  void read_by(std::function<Readings(const DeviceDescription&)> readings) {
    readings_ = std::move(readings);
  }
  /// `doubted` is called when a context ended because its device did not serve it. Its
  /// tenant gets no other one there until set_devices says how things stand.
  void when_doubted(std::function<void()> doubted) { doubted_ = std::move(doubted); }

  Answer<proto::driver::Device::Reply> handle(proto::driver::Device,
                                              const proto::driver::Device::Request& request,
                                              CallContext& call);
  Answer<proto::driver::OpenContext::Reply> handle(
      proto::driver::OpenContext, const proto::driver::OpenContext::Request& request,
      CallContext& call);
  Answer<proto::driver::CloseContext::Reply> handle(
      proto::driver::CloseContext, const proto::driver::CloseContext::Request& request,
      CallContext& call);
  Answer<proto::driver::Absent::Reply> handle(proto::driver::Absent,
                                              const proto::driver::Absent::Request& request,
                                              CallContext& call);

 private:
  struct Device {
    DeviceDescription is;
    bool failed = false;
    /// Tenants whose context found no device; set_devices will tell.
    std::set<std::uint64_t> doubted_by{};
  };

  Result<OwnedHandle> take_tenant(Handle handle, std::uint64_t sender, std::uint64_t& job_id,
                                  std::uint32_t& uid);
  Result<void> check_device(std::uint64_t index) const;
  Result<void> check_present(const Device& device, std::uint64_t tenant_job_id) const;
  void adopt();
  void add_readings(const Device& device, proto::driver::Device::Reply& reply) const;
  Result<Context*> start(Handle tenant, ContextKey key, std::uint32_t uid);
  Result<void> make_room(std::uint32_t uid);
  bool end_lonely(std::optional<std::uint32_t> uid);
  void end(ContextKey key);
  void kill(const Context& context);
  Result<Context> spawn(Handle tenant, ContextKey key, std::uint32_t uid, std::uint32_t generation);
  Result<void> keep_part(KeptPart part, const Context& context, Handle handle);
  void watch(const Context& context);
  void find_out_end(Context& context);
  /// Lets go of a context that has ended.
  void end_later(Handle process, std::uint64_t after_ns);
  void release(const Context& context);

  Kernel& kernel_;
  EventLoop& loop_;
  const Handle spawner_;
  const std::string context_name_;
  bool known_ = false;
  std::vector<Device> devices_;
  std::vector<Absence> absent_;
  std::function<Readings(const DeviceDescription&)> readings_;
  std::function<void()> doubted_;
  ServerBase* server_ = nullptr;
  ContextTable contexts_;
  MemoryOwners owners_;
  std::map<Handle, std::shared_ptr<Tombstone>> tombstones_;  // by port, of contexts that ended
  std::multimap<Handle, ReplyToken> closing_;  // who waits for a context's end, by its process
};

}  // namespace aios::device
