// Carries out kernels, one block after the other, its threads in turns from barrier to barrier.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "tests/support/cuda_double/ptx.hpp"

namespace aios::cuda_double {

/// What of this process's memory is the device's. Thread-safe.
class DeviceMemory {
 public:
  void add(std::uint64_t address, std::uint64_t bytes);
  void remove(std::uint64_t address);
  /// True when all of it lies within one part.
  bool contains(std::uint64_t address, std::uint64_t bytes) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> parts_;
};

enum class Outcome {
  done,
  illegal_address,
  trapped,
  stopped,  ///< because `stop` was set
};

struct Launch {
  const Kernel* kernel;
  std::array<std::uint32_t, 3> grid;
  std::array<std::uint32_t, 3> block;
  std::vector<std::byte> parameters;
};

Outcome run(const Launch& launch, const DeviceMemory& memory, const std::atomic<bool>& stop);

}  // namespace aios::cuda_double
