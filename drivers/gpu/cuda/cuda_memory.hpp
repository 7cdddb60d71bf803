// Device memory that passes between processes as a descriptor: made in one, mapped in another.
#pragma once

#include <memory>
#include <string>

#include "drivers/gpu/cuda/driver_api.hpp"
#include "drivers/gpu/memory/owned_memory.hpp"

namespace aios::gpu::cuda {

/// Makes memory of the device with this uuid, without a context there. not_found: it is gone;
/// not_supported: its memory cannot be handed on.
Result<std::unique_ptr<MemoryMaker>> open_memory(std::unique_ptr<const DriverApi> api,
                                                 const std::string& uuid);

/// Such memory, mapped for reading and writing in the context of the calling thread; unmapped at
/// its end, when nothing on the device may use it any more.
class MappedMemory {
 public:
  MappedMemory() = default;
  /// `descriptor` stays the caller's and is not needed afterwards.
  static Result<MappedMemory> map(const DriverApi& api, Device device, const Fd& descriptor,
                                  std::uint64_t bytes);
  MappedMemory(MappedMemory&& other) noexcept;
  MappedMemory& operator=(MappedMemory&& other) noexcept;
  ~MappedMemory() { reset(); }

  bool valid() const { return address_ != 0; }
  DevicePointer address() const { return address_; }
  void reset();

 private:
  Result<void> place(Device device, const Fd& descriptor);

  const DriverApi* api_ = nullptr;
  DevicePointer address_ = 0;
  std::uint64_t bytes_ = 0;
  bool mapped_ = false;
};

}  // namespace aios::gpu::cuda
