#include "drivers/gpu/cuda/driver_api.hpp"

#include <dlfcn.h>

#include <algorithm>

namespace aios::gpu::cuda {

namespace {

/// The newest version whose forms of the functions are declared in the header.
constexpr int pinned_version = 11040;
/// Since which there are the newer ones.
constexpr int newer_version = 12080;

using GetProcAddress = Code (*)(const char* symbol, void** function, int version,
                                std::uint64_t flags);
using GetProcAddressV2 = Code (*)(const char* symbol, void** function, int version,
                                  std::uint64_t flags, int* status);

/// How to look functions up in a loaded library, the same before and since CUDA 12.
class Lookup {
 public:
  explicit Lookup(void* library)
      : old_(reinterpret_cast<GetProcAddress>(::dlsym(library, "cuGetProcAddress"))),
        new_(reinterpret_cast<GetProcAddressV2>(::dlsym(library, "cuGetProcAddress_v2"))) {}
  bool works() const { return old_ != nullptr || new_ != nullptr; }
  void* find(const char* symbol, int version) const {
    void* function = nullptr;
    int status = 0;
    const Code code = new_ != nullptr ? new_(symbol, &function, version, 0, &status)
                                      : old_(symbol, &function, version, 0);
    return code == Code::success ? function : nullptr;
  }

 private:
  GetProcAddress old_;
  GetProcAddressV2 new_;
};

}  // namespace

bool is_fatal(Code code) {
  static constexpr int fatal[] = {214, 226, 700, 702, 710, 714, 715,
                                  716, 717, 718, 719, 721, 810, 911};
  return std::ranges::binary_search(fatal, static_cast<int>(code));
}

bool is_gone(Code code) {
  return code == Code::no_device || code == Code::invalid_device ||
         code == Code::device_unavailable || code == Code::unknown;
}

Result<std::unique_ptr<const DriverApi>> DriverApi::load(const std::string& library) {
  void* const loaded = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (loaded == nullptr) return error(aios::Code::not_found, ::dlerror());
  const Lookup lookup(loaded);
  if (!lookup.works())
    return error(aios::Code::not_found,
                 library + " has no cuGetProcAddress: its driver is older than CUDA 11.3");
  auto api = std::make_unique<DriverApi>();
#define AIOS_CUDA_LOOKUP(name, symbol, parameters)                                        \
  api->name = reinterpret_cast<decltype(api->name)>(lookup.find(symbol, pinned_version)); \
  if (api->name == nullptr)                                                               \
    return error(aios::Code::not_found, library + " has no function " symbol);
  AIOS_CUDA_FUNCTIONS(AIOS_CUDA_LOOKUP)
#undef AIOS_CUDA_LOOKUP
#define AIOS_CUDA_LOOKUP(name, symbol, parameters) \
  api->name = reinterpret_cast<decltype(api->name)>(lookup.find(symbol, newer_version));
  AIOS_CUDA_NEWER_FUNCTIONS(AIOS_CUDA_LOOKUP)
#undef AIOS_CUDA_LOOKUP
  return api;
}

std::string DriverApi::describe(Code code) const {
  const char* name = nullptr;
  const char* text = nullptr;
  const std::string number = std::to_string(static_cast<int>(code));
  if (error_name(code, &name) != Code::success || error_text(code, &text) != Code::success)
    return "CUDA error " + number;
  return std::string(name) + ": " + text + " (" + number + ")";
}

std::unexpected<Status> DriverApi::failed(const char* what, Code code) const {
  const std::string message = std::string("cannot ") + what + ": " + describe(code);
  switch (code) {
    case Code::out_of_memory:
      return error(aios::Code::no_memory, message);
    case Code::not_found:
      return error(aios::Code::not_found, message);
    case Code::invalid_ptx:
    case Code::invalid_image:
    case Code::no_binary_for_gpu:
    case Code::invalid_value:
    case Code::launch_out_of_resources:
      return error(aios::Code::invalid_argument, message);
    default:
      return error(aios::Code::io_error, message);
  }
}

Result<void> check(const DriverApi& api, const char* what, Code code) {
  if (code == Code::success) [[likely]]
    return {};
  if (is_fatal(code)) return error(aios::Code::crashed, api.describe(code));
  if (is_gone(code))
    return error(aios::Code::service_down,
                 std::string("cannot ") + what + ", the GPU is gone: " + api.describe(code));
  return api.failed(what, code);
}

}  // namespace aios::gpu::cuda
