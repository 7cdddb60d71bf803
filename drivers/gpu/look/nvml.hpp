// How busy and how warm NVIDIA's GPUs are, by the management library that comes with their driver:
// the part of it that AIOS uses, declared from its documented binary interface and looked up when
// it is loaded. It may take long or hang: for a process that can be ended.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "abi/runtime/status.hpp"

namespace aios::gpu {

/// What one GPU says; nothing: it does not say.
struct Gauge {
  std::optional<std::uint32_t> busy_percent;
  std::optional<std::uint32_t> celsius;
};

class Nvml {
 public:
  /// "libnvidia-ml.so.1", or the file that AIOS_NVML_LIBRARY names. not_found: there is none, or it
  /// lacks a function; io_error: it finds no driver. The reason is in the message.
  static Result<std::unique_ptr<Nvml>> load();
  Nvml(const Nvml&) = delete;

  /// Of the GPU at this PCI address, if its uuid is this one. not_found: there is no such GPU;
  /// io_error: it does not answer.
  Result<Gauge> read(const std::string& pci_address, const std::string& uuid) const;

 private:
  using Code = int;
  using Device = struct nvmlDevice_st*;
  struct Utilisation {
    unsigned gpu;  ///< percent
    unsigned memory;
  };

  Nvml() = default;
  Result<void> look_up(void* library);
  Result<void> check(const char* what, Code code) const;

  Code (*init_)() = nullptr;
  const char* (*error_text_)(Code code) = nullptr;
  Code (*device_by_bus_)(const char* pci_address, Device* device) = nullptr;
  Code (*device_uuid_)(Device device, char* text, unsigned bytes) = nullptr;
  Code (*device_utilisation_)(Device device, Utilisation* now) = nullptr;
  Code (*device_temperature_)(Device device, int sensor, unsigned* celsius) = nullptr;
};

}  // namespace aios::gpu
