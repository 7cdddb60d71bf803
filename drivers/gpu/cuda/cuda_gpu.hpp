// The CUDA backend: one device through the Driver API, in its primary context, on one stream.
#pragma once

#include <memory>

#include "drivers/gpu/cuda/driver_api.hpp"
#include "drivers/gpu/gpu.hpp"
#include "drivers/gpu/memory/kept_memory.hpp"

namespace aios::gpu::cuda {

/// Opens the device with this uuid; `memory_limit_bytes` of it may be used. Large buffers are
/// borrowed from `kept`, which outlives the result, where it is given. not_found, io_error.
Result<std::unique_ptr<Gpu>> open(std::unique_ptr<const DriverApi> api, const std::string& uuid,
                                  std::uint64_t memory_limit_bytes, KeptMemory* kept);

}  // namespace aios::gpu::cuda
