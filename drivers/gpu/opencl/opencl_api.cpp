#include "drivers/gpu/opencl/opencl_api.hpp"

#include <dlfcn.h>

namespace aios::gpu::opencl {

Result<std::unique_ptr<const OpenclApi>> OpenclApi::load(const std::string& library) {
  void* const loaded = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (loaded == nullptr) return error(Code::not_found, ::dlerror());
  auto api = std::make_unique<OpenclApi>();
#define AIOS_OPENCL_LOOKUP(name)                                             \
  api->name = reinterpret_cast<decltype(api->name)>(::dlsym(loaded, #name)); \
  if (api->name == nullptr) return error(Code::not_found, library + " has no " #name);
  AIOS_OPENCL_FUNCTIONS(AIOS_OPENCL_LOOKUP)
#undef AIOS_OPENCL_LOOKUP
  return api;
}

std::string describe(cl_int code) {
  const auto named = [code](const char* name) {
    return std::string(name) + " (" + std::to_string(code) + ")";
  };
  constexpr cl_int nvidia_illegal_access = -9999;
  switch (code) {
    case nvidia_illegal_access:
      return named("an illegal read or write");
    case CL_DEVICE_NOT_FOUND:
      return named("CL_DEVICE_NOT_FOUND");
    case CL_DEVICE_NOT_AVAILABLE:
      return named("CL_DEVICE_NOT_AVAILABLE");
    case CL_COMPILER_NOT_AVAILABLE:
      return named("CL_COMPILER_NOT_AVAILABLE");
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
      return named("CL_MEM_OBJECT_ALLOCATION_FAILURE");
    case CL_OUT_OF_RESOURCES:
      return named("CL_OUT_OF_RESOURCES");
    case CL_OUT_OF_HOST_MEMORY:
      return named("CL_OUT_OF_HOST_MEMORY");
    case CL_BUILD_PROGRAM_FAILURE:
      return named("CL_BUILD_PROGRAM_FAILURE");
    case CL_INVALID_VALUE:
      return named("CL_INVALID_VALUE");
    case CL_INVALID_BUFFER_SIZE:
      return named("CL_INVALID_BUFFER_SIZE");
    case CL_INVALID_KERNEL_NAME:
      return named("CL_INVALID_KERNEL_NAME");
    case CL_INVALID_WORK_GROUP_SIZE:
      return named("CL_INVALID_WORK_GROUP_SIZE");
    case CL_INVALID_COMMAND_QUEUE:
      return named("CL_INVALID_COMMAND_QUEUE");
    default:
      return named("OpenCL error");
  }
}

}  // namespace aios::gpu::opencl
