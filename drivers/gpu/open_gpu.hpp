// Which GPUs there are, and opening one, whatever its backend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "drivers/gpu/cuda/driver_api.hpp"
#include "drivers/gpu/gpu.hpp"
#include "drivers/gpu/memory/kept_memory.hpp"
#include "drivers/gpu/memory/owned_memory.hpp"
#include "drivers/gpu/opencl/opencl_api.hpp"

namespace aios::gpu {

/// Sets NAME=VALUE for libraries that are loaded later. invalid_argument: it has no '='.
Result<void> set_environment(const std::string& assignment);

/// What lets the loader of OpenCL drivers load this one and no other, whoever made the loader.
std::vector<std::string> opencl_environment(const std::string& driver_library);

/// The devices of one backend. Loads the vendors' libraries into this process, which may hang.
/// not_found: none, with the reason.
Result<std::vector<DeviceInfo>> discover_cuda();
Result<std::vector<DeviceInfo>> discover_opencl();

/// The library of a backend, loaded: from then on its file is not needed. It has no threads yet.
struct Library {
  std::unique_ptr<const cuda::DriverApi> cuda;
  std::unique_ptr<const opencl::OpenclApi> opencl;
};
/// not_found: it is not installed. invalid_argument: no such backend.
Result<Library> load(const std::string& backend);

/// Opens a device. `memory_limit_bytes`: how much of its memory may be used. `kept`, where given,
/// outlives the result.
Result<std::unique_ptr<Gpu>> open(Library library, const std::string& uuid,
                                  std::uint64_t memory_limit_bytes, KeptMemory* kept = nullptr);

/// For the process that owns a device's memory. not_found; not_supported: it cannot be handed on.
Result<std::unique_ptr<MemoryMaker>> open_memory(Library library, const std::string& uuid);

}  // namespace aios::gpu
