// Tells the driver's server what GPUs there are: at first, when a context says that its device does
// not serve it, and now and then while one is gone; and how busy and how warm they are.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "abi/runtime/event_loop.hpp"
#include "drivers/device/driver_server.hpp"
#include "drivers/gpu/look/gauges.hpp"
#include "drivers/gpu/look/prober.hpp"

namespace aios::gpu {

class DeviceWatch {
 public:
  /// `environment`: variables for contexts, NAME=VALUE.
  /// Tasks use at most so much of each device's memory; 0: all of it.
  DeviceWatch(EventLoop& loop, device::DriverServer& driver, std::vector<std::string> environment,
              std::uint64_t memory_limit_bytes)
      : loop_(loop),
        driver_(driver),
        environment_(std::move(environment)),
        memory_limit_bytes_(memory_limit_bytes) {}
  DeviceWatch(const DeviceWatch&) = delete;
  ~DeviceWatch() { loop_.cancel(again_); }

  /// Before the process locks itself in and has threads. Looks for at most `limit_s` each time.
  Result<void> start(unsigned limit_s);

 private:
  void found(std::optional<Findings> findings);
  void look_soon();
  void tell_absent();
  device::DeviceDescription describe(const DeviceInfo& info) const;

  EventLoop& loop_;
  device::DriverServer& driver_;
  const std::vector<std::string> environment_;
  const std::uint64_t memory_limit_bytes_;
  std::unique_ptr<Prober> prober_;
  std::unique_ptr<Gauges> gauges_;
  std::vector<device::Absence> absent_;  ///< as found
  std::vector<device::Absence> told_;    ///< in the log
  TimerId again_ = 0;
};

}  // namespace aios::gpu
