#include "drivers/gpu/look/nvml.hpp"

#include <dlfcn.h>

#include <cstdlib>

namespace aios::gpu {

namespace {

constexpr int success = 0;
constexpr int not_found = 6;
/// The sensor of the chip itself.
constexpr int on_chip = 0;
constexpr unsigned most_uuid_bytes = 96;

template <class Function>
Result<void> find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  if (function != nullptr) return {};
  return error(Code::not_found, std::string("NVIDIA's management library has no ") + name);
}

}  // namespace

Result<std::unique_ptr<Nvml>> Nvml::load() {
  const char* const named = std::getenv("AIOS_NVML_LIBRARY");
  void* const library =
      ::dlopen(named != nullptr ? named : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return error(aios::Code::not_found, ::dlerror());
  std::unique_ptr<Nvml> made(new Nvml);
  TRY(made->look_up(library));
  TRY(made->check("start NVIDIA's management library", made->init_()));
  return made;
}

Result<void> Nvml::look_up(void* library) {
  TRY(find(library, "nvmlInit_v2", init_));
  TRY(find(library, "nvmlErrorString", error_text_));
  TRY(find(library, "nvmlDeviceGetHandleByPciBusId_v2", device_by_bus_));
  TRY(find(library, "nvmlDeviceGetUUID", device_uuid_));
  TRY(find(library, "nvmlDeviceGetUtilizationRates", device_utilisation_));
  return find(library, "nvmlDeviceGetTemperature", device_temperature_);
}

Result<void> Nvml::check(const char* what, Code code) const {
  if (code == success) return {};
  const char* const text = error_text_(code);
  return error(code == not_found ? aios::Code::not_found : aios::Code::io_error,
               std::string("cannot ") + what + ": " + (text != nullptr ? text : "unknown error") +
                   " (" + std::to_string(code) + ")");
}

Result<Gauge> Nvml::read(const std::string& pci_address, const std::string& uuid) const {
  Device device = nullptr;
  TRY(check("find the GPU", device_by_bus_(pci_address.c_str(), &device)));
  char text[most_uuid_bytes] = {};
  TRY(check("ask the GPU's uuid", device_uuid_(device, text, sizeof text - 1)));
  if (uuid != text)
    return error(aios::Code::not_found, "at " + pci_address + " is GPU " + text + ", not " + uuid);
  Gauge gauge;
  Utilisation now{};
  if (device_utilisation_(device, &now) == success) gauge.busy_percent = now.gpu;
  unsigned celsius = 0;
  if (device_temperature_(device, on_chip, &celsius) == success) gauge.celsius = celsius;
  return gauge;
}

}  // namespace aios::gpu
