#include "drivers/gpu/open_gpu.hpp"

#include <cstdlib>

#include "drivers/gpu/cuda/cuda_gpu.hpp"
#include "drivers/gpu/opencl/opencl_gpu.hpp"

namespace aios::gpu {

namespace {

/// The file that AIOS_CUDA_LIBRARY names instead, such as a test's double of the driver.
std::string cuda_library() {
  const char* const named = std::getenv("AIOS_CUDA_LIBRARY");
  return named != nullptr ? named : "libcuda.so.1";
}
constexpr const char* opencl_library = "libOpenCL.so.1";

Result<std::vector<DeviceInfo>> discover_cuda() {
  return cuda::discover(*TRY(cuda::DriverApi::load(cuda_library())));
}
Result<std::vector<DeviceInfo>> discover_opencl() {
  return opencl::discover(*TRY(opencl::OpenclApi::load(opencl_library)));
}

}  // namespace

Result<void> set_environment(const std::string& assignment) {
  const auto equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    return error(Code::invalid_argument, "--environment takes NAME=VALUE, not " + assignment);
  ::setenv(assignment.substr(0, equals).c_str(), assignment.c_str() + equals + 1, 1);
  return {};
}

std::vector<DeviceInfo> discover(std::vector<std::string>& notes) {
  std::vector<DeviceInfo> all;
  if (auto found = discover_cuda())
    all = std::move(*found);
  else
    notes.push_back("cuda: " + found.error().message());
  const bool has_cuda = !all.empty();
  if (auto found = discover_opencl()) {
    for (DeviceInfo& info : *found)
      // NVIDIA's own OpenCL shows the same GPUs once more.
      if (!has_cuda || info.model.find("NVIDIA") == std::string::npos)
        all.push_back(std::move(info));
  } else {
    notes.push_back("opencl: " + found.error().message());
  }
  return all;
}

Result<Library> load(const std::string& backend) {
  Library library;
  if (backend == "cuda")
    library.cuda = TRY(cuda::DriverApi::load(cuda_library()));
  else if (backend == "opencl")
    library.opencl = TRY(opencl::OpenclApi::load(opencl_library));
  else
    return error(Code::invalid_argument, "there is no GPU backend '" + backend + "'");
  return library;
}

Result<std::unique_ptr<Gpu>> open(Library library, const std::string& uuid,
                                  std::uint64_t memory_limit_bytes) {
  if (library.cuda != nullptr) return cuda::open(std::move(library.cuda), uuid, memory_limit_bytes);
  return opencl::open(std::move(library.opencl), uuid, memory_limit_bytes);
}

}  // namespace aios::gpu
