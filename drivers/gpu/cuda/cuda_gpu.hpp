// The CUDA backend: one device through the Driver API, in its primary context, on one stream.
#pragma once

#include <memory>
#include <vector>

#include "drivers/gpu/cuda/driver_api.hpp"
#include "drivers/gpu/gpu.hpp"

namespace aios::gpu::cuda {

/// What is there. Initialises the driver, which may take long or hang: in a process that can be
/// ended. not_found: no driver or no device, with the reason.
Result<std::vector<DeviceInfo>> discover(const DriverApi& api);

/// Opens the device with this uuid; `memory_limit_bytes` of it may be used. not_found, io_error.
Result<std::unique_ptr<Gpu>> open(std::unique_ptr<const DriverApi> api, const std::string& uuid,
                                  std::uint64_t memory_limit_bytes);

}  // namespace aios::gpu::cuda
