// How contexts on GPUs load modules and run tasks: kernels, launched one after the other.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "drivers/device/backend.hpp"
#include "drivers/gpu/gpu.hpp"

namespace aios::gpu {

/// The device is touched by one worker only.
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
  bool lost() const override { return lost_; }

  /// For the works: on the worker.
  Result<Times> run(Kernel& kernel, std::array<std::uint32_t, 3> grid,
                    std::span<const std::byte> arguments,
                    std::span<const std::shared_ptr<const device::BufferMemory>> memory,
                    std::span<const std::uint32_t> modes);

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
  };

  Result<std::vector<std::unique_ptr<Kernel>>> compile(std::span<const std::byte> image);
  Loaded& find_or_load(std::span<const std::byte> image);
  Result<DeviceBuffer*> attach(const std::shared_ptr<const device::BufferMemory>& memory);
  void note(const Status& status);

  std::unique_ptr<Gpu> gpu_;
  std::deque<Loaded> modules_;                                          ///< of the worker
  std::unordered_map<const device::BufferMemory*, Attached> attached_;  ///< of the worker
  std::mutex mutex_;                                                    ///< of what follows
  std::deque<Kernel*> kernels_;                                         ///< by number
  std::atomic<std::uint64_t> peak_memory_bytes_ = 0;
  std::atomic<bool> lost_ = false;
};

}  // namespace aios::gpu
