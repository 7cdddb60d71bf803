// The OpenCL backend: one device of any vendor, in a context and on one queue of its own. Kernels
// are compiled from their text by the vendor's driver, in this process.
#pragma once

#include <memory>
#include <vector>

#include "drivers/gpu/gpu.hpp"
#include "drivers/gpu/opencl/opencl_api.hpp"

namespace aios::gpu::opencl {

/// What is there: GPUs and accelerators of all platforms, and, for a machine whose only OpenCL runs
/// on the processor (PoCL), that. A platform that answers with errors is left out. Loads the
/// vendors' drivers, which may take long or hang: in a process that can be ended. not_found: no
/// device, with the reason.
Result<std::vector<DeviceInfo>> discover(const OpenclApi& api);

/// Opens the device with this uuid; `memory_limit_bytes` of it may be used. not_found, io_error.
Result<std::unique_ptr<Gpu>> open(std::unique_ptr<const OpenclApi> api, const std::string& uuid,
                                  std::uint64_t memory_limit_bytes);

}  // namespace aios::gpu::opencl
