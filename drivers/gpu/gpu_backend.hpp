// How contexts on GPUs load modules and run tasks: kernels, in the order of the device's queue, of
// which several are on their way at once. What tasks have brought to the device stays there until
// its buffer is unbound or its place is needed, and is brought again only when it has changed; what
// they write is in the host's memory when they are answered, so a copy here is never the only one.
// Where device memory can outlive its context (kept_memory.hpp), the next one finds the copies.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "drivers/device/backend.hpp"
#include "drivers/gpu/gpu.hpp"

namespace aios::gpu {

/// How many launches may be on their way: the next is ready when one ends.
inline constexpr std::uint32_t launches_in_flight = 4;

/// A buffer as a task uses it.
struct MemoryUse {
  std::shared_ptr<const device::BufferMemory> memory;
  std::uint32_t mode;
  std::uint32_t content;  ///< proto::context::BufferUse
};

class GpuBackend final : public device::Backend {
 public:
  explicit GpuBackend(std::unique_ptr<Gpu> gpu) : gpu_(std::move(gpu)) {}

  Result<std::uint32_t> load(std::span<const std::byte> image, std::string_view codelet) override;
  Result<std::shared_ptr<device::Work>> prepare(const proto::context::Run::Request& request,
                                                const device::BufferTable& buffers) override;
  /// Of the device's memory.
  std::uint64_t peak_memory_bytes() const override { return peak_memory_bytes_; }
  bool keeps_buffers() const override { return true; }
  void release_unbound() override;
  device::Loss loss() const override { return loss_; }
  proto::context::Copies::Reply copies() const override;

  /// For the works. `launch` has everything but its buffers.
  Result<std::unique_ptr<Flight>> start(Launch launch, std::span<const MemoryUse> uses);
  bool tells_end() const { return gpu_->tells_end(); }
  bool has_ended(const Flight& flight) const { return gpu_->has_ended(flight); }
  Result<Times> wait(std::unique_ptr<Flight> flight);

 private:
  struct Loaded {
    std::uint64_t low;
    std::uint64_t high;
    std::size_t bytes;
    Result<std::vector<std::unique_ptr<Kernel>>> kernels;
  };
  /// Keeps its memory mapped as long as the device knows it.
  struct Attached {
    std::shared_ptr<const device::BufferMemory> memory;
    std::unique_ptr<DeviceBuffer> buffer;
    std::uint32_t content = 0;  ///< what the device holds; 0: nothing of use
    std::uint64_t last_use = 0;
  };

  Result<std::vector<std::unique_ptr<Kernel>>> compile(std::span<const std::byte> image);
  Loaded& find_or_load(std::span<const std::byte> image);
  Result<std::vector<Attached*>> attach_all(std::span<const MemoryUse> uses);
  Result<Attached*> attach(const std::shared_ptr<const device::BufferMemory>& memory);
  std::uint32_t content_left(const device::BufferMemory& memory, const DeviceBuffer& buffer);
  bool may_have_written(const device::BufferMemory& memory) const;
  void note_written(std::uint64_t region);
  bool evict_oldest();
  void remember(const MemoryUse& use, Attached& attached);
  std::vector<Settlement> begin_changes(const Launch& launch, std::span<const MemoryUse> uses,
                                        std::span<Attached* const> attached);
  void note(const Status& status);
  void forget_contents();
  void count_copies(const Times& times);

  std::unique_ptr<Gpu> gpu_;
  std::mutex device_mutex_;  ///< of the device, but for waiting, and of what follows; perhaps long
  std::deque<Loaded> modules_;
  std::unordered_map<const device::BufferMemory*, Attached> attached_;
  std::uint64_t launches_ = 0;
  std::unordered_set<std::uint64_t> written_regions_;
  bool wrote_many_regions_ = false;  ///< too many to say which
  mutable std::mutex mutex_;         ///< of what follows; never held for long
  std::deque<Kernel*> kernels_;      ///< by number
  proto::context::Copies::Reply copies_{};
  std::atomic<std::uint64_t> peak_memory_bytes_ = 0;
  std::atomic<device::Loss> loss_ = device::Loss::none;
};

}  // namespace aios::gpu
