// Which CUDA devices there are, and what they are.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "drivers/gpu/cuda/driver_api.hpp"
#include "drivers/gpu/gpu.hpp"

namespace aios::gpu::cuda {

/// What is there. Initialises the driver, which may take long or hang: in a process that can be
/// ended. not_found: no driver or no device, with the reason.
Result<std::vector<DeviceInfo>> discover(const DriverApi& api);

struct Found {
  Device device;
  DeviceInfo info;  ///< without topology
};
/// The device with this uuid; initialises the driver. not_found: it is gone.
Result<Found> find_device(const DriverApi& api, const std::string& uuid);

Result<int> attribute(const DriverApi& api, Device device, Attribute which);

/// invalid_argument: no GPU launches it in such blocks, or a grid of so many. The driver would say
/// no more than that a value is invalid.
Result<void> check_shape(const KernelInfo& kernel, const std::array<std::uint32_t, 3>& grid);

}  // namespace aios::gpu::cuda
