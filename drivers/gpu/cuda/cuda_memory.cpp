#include "drivers/gpu/cuda/cuda_memory.hpp"

#include <utility>

#include "drivers/gpu/cuda/cuda_devices.hpp"

namespace aios::gpu::cuda {

namespace {

constexpr int granularity_minimum = 0;

AllocationProperties properties_of(Device device) {
  AllocationProperties properties{};
  properties.type = AllocationProperties::pinned;
  properties.handle_types = AllocationProperties::posix_descriptor;
  properties.location.type = AllocationProperties::device;
  properties.location.id = device;
  return properties;
}

class CudaMemoryMaker final : public MemoryMaker {
 public:
  CudaMemoryMaker(std::unique_ptr<const DriverApi> api, Device device, std::uint64_t granularity)
      : api_(std::move(api)), properties_(properties_of(device)), granularity_(granularity) {}

  std::uint64_t granularity() const override { return granularity_; }

  Result<Number> make(std::uint64_t bytes) override {
    Allocation made = 0;
    TRY(check(*api_, "make memory of the GPU",
              api_->allocation_create(&made, bytes, &properties_, 0)));
    return made;
  }

  Result<Fd> share(Number made) override {
    int descriptor = -1;
    TRY(check(
        *api_, "hand on memory of the GPU",
        api_->allocation_export(&descriptor, made, AllocationProperties::posix_descriptor, 0)));
    return Fd(descriptor);
  }

  void release(Number made) override { (void)api_->allocation_release(made); }

 private:
  const std::unique_ptr<const DriverApi> api_;
  const AllocationProperties properties_;
  const std::uint64_t granularity_;
};

}  // namespace

Result<std::unique_ptr<MemoryMaker>> open_memory(std::unique_ptr<const DriverApi> api,
                                                 const std::string& uuid) {
  const Found found = TRY(find_device(*api, uuid));
  if (!found.info.exports_memory)
    return error(aios::Code::not_supported,
                 "memory of " + found.info.model + " cannot be handed to other processes");
  const AllocationProperties properties = properties_of(found.device);
  std::size_t granularity = 0;
  TRY(check(*api, "ask how memory of the GPU is divided",
            api->allocation_granularity(&granularity, &properties, granularity_minimum)));
  if (granularity == 0)
    return error(aios::Code::io_error, "the GPU's driver says that memory has no granularity");
  return std::make_unique<CudaMemoryMaker>(std::move(api), found.device, granularity);
}

Result<MappedMemory> MappedMemory::map(const DriverApi& api, Device device, const Fd& descriptor,
                                       std::uint64_t bytes) {
  MappedMemory memory;
  memory.api_ = &api;
  memory.bytes_ = bytes;
  TRY(check(api, "find a place for memory of the GPU",
            api.address_reserve(&memory.address_, bytes, 0, 0, 0)));
  TRY(memory.place(device, descriptor));
  return memory;
}

Result<void> MappedMemory::place(Device device, const Fd& descriptor) {
  Allocation allocation = 0;
  // A descriptor is passed in the pointer itself.
  void* const passed = reinterpret_cast<void*>(static_cast<std::uintptr_t>(descriptor.get()));
  TRY(check(*api_, "take over memory of the GPU",
            api_->allocation_import(&allocation, passed, AllocationProperties::posix_descriptor)));
  const Code mapped = api_->map(address_, bytes_, 0, allocation, 0);
  mapped_ = mapped == Code::success;
  // The mapping holds it.
  (void)api_->allocation_release(allocation);
  TRY(check(*api_, "map memory of the GPU", mapped));
  const AccessDescription access{{AllocationProperties::device, device},
                                 AccessDescription::read_write};
  return check(*api_, "open memory of the GPU", api_->set_access(address_, bytes_, &access, 1));
}

MappedMemory::MappedMemory(MappedMemory&& other) noexcept
    : api_(other.api_),
      address_(std::exchange(other.address_, 0)),
      bytes_(other.bytes_),
      mapped_(std::exchange(other.mapped_, false)) {}

MappedMemory& MappedMemory::operator=(MappedMemory&& other) noexcept {
  if (this == &other) return *this;
  reset();
  api_ = other.api_;
  address_ = std::exchange(other.address_, 0);
  bytes_ = other.bytes_;
  mapped_ = std::exchange(other.mapped_, false);
  return *this;
}

void MappedMemory::reset() {
  if (address_ == 0) return;
  if (std::exchange(mapped_, false)) (void)api_->unmap(address_, bytes_);
  (void)api_->address_free(std::exchange(address_, 0), bytes_);
}

}  // namespace aios::gpu::cuda
