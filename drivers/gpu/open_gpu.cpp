#include "drivers/gpu/open_gpu.hpp"

#include <cstdlib>

#include "drivers/gpu/cuda/cuda_devices.hpp"
#include "drivers/gpu/cuda/cuda_gpu.hpp"
#include "drivers/gpu/cuda/cuda_memory.hpp"
#include "drivers/gpu/opencl/opencl_gpu.hpp"

namespace aios::gpu {

namespace {

/// The file that a variable names instead, such as a test's double of the driver.
std::string library_named(const char* variable, const char* otherwise) {
  const char* const named = std::getenv(variable);
  return named != nullptr ? named : otherwise;
}
std::string cuda_library() {
  return library_named("AIOS_CUDA_LIBRARY", "libcuda.so.1");
}
std::string opencl_library() {
  return library_named("AIOS_OPENCL_LIBRARY", "libOpenCL.so.1");
}

}  // namespace

Result<std::vector<DeviceInfo>> discover_cuda() {
  return cuda::discover(*TRY(cuda::DriverApi::load(cuda_library())));
}

Result<std::vector<DeviceInfo>> discover_opencl() {
  return opencl::discover(*TRY(opencl::OpenclApi::load(opencl_library())));
}

std::vector<std::string> opencl_environment(const std::string& driver_library) {
  // The first is read by Debian's loader, which takes a library there, and as a folder by that of
  // Khronos, which finds nothing in it and adds those that the second names.
  return {"OCL_ICD_VENDORS=" + driver_library, "OCL_ICD_FILENAMES=" + driver_library};
}

Result<void> set_environment(const std::string& assignment) {
  const auto equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    return error(Code::invalid_argument, "--environment takes NAME=VALUE, not " + assignment);
  ::setenv(assignment.substr(0, equals).c_str(), assignment.c_str() + equals + 1, 1);
  return {};
}

Result<Library> load(const std::string& backend) {
  Library library;
  if (backend == "cuda")
    library.cuda = TRY(cuda::DriverApi::load(cuda_library()));
  else if (backend == "opencl")
    library.opencl = TRY(opencl::OpenclApi::load(opencl_library()));
  else
    return error(Code::invalid_argument, "there is no GPU backend '" + backend + "'");
  return library;
}

Result<std::unique_ptr<Gpu>> open(Library library, const std::string& uuid,
                                  std::uint64_t memory_limit_bytes, KeptMemory* kept) {
  if (library.cuda != nullptr)
    return cuda::open(std::move(library.cuda), uuid, memory_limit_bytes, kept);
  return opencl::open(std::move(library.opencl), uuid, memory_limit_bytes);
}

Result<std::unique_ptr<MemoryMaker>> open_memory(Library library, const std::string& uuid) {
  if (library.cuda != nullptr) return cuda::open_memory(std::move(library.cuda), uuid);
  return error(Code::not_supported, "memory of OpenCL devices cannot be handed to other processes");
}

}  // namespace aios::gpu
