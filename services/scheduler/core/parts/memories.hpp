// The memories of the devices, what it takes to bring data from one to another, and which of them
// hold a valid copy of a piece of data (MSI: whoever writes has the only valid copy; who reads gets
// one beside those that there are).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "services/scheduler/costs/costs.hpp"

namespace aios::scheduler {

using MemoryId = std::uint32_t;
inline constexpr MemoryId host_memory = 0;

/// One bit for each memory.
using Copies = std::uint64_t;
inline constexpr Copies only_in(MemoryId memory) {
  return Copies{1} << memory;
}

struct TransferCost {
  double latency_ns = 0;
  double ns_per_byte = 0;
  double of(std::uint64_t bytes) const {
    return latency_ns + ns_per_byte * static_cast<double>(bytes);
  }
};

/// What has to be brought to a device before a task can run there.
struct Transfer {
  double ns = 0;
  std::uint64_t bytes = 0;
};

class Memories {
 public:
  /// Of a new device: the host's, until told otherwise.
  void add_device() { of_device_.push_back(host_memory); }
  void set_memory(DeviceId device, MemoryId memory);
  MemoryId of(DeviceId device) const { return of_device_[device]; }
  bool is_one() const { return count_ == 1; }
  std::uint32_t count() const { return count_; }
  /// What tasks write is copied to the host's memory before they are answered: there is always a
  /// valid copy there. From now on.
  void copy_back() { copies_back_ = true; }
  bool copies_back() const { return copies_back_; }

  void set_transfer(MemoryId from, MemoryId to, TransferCost cost);
  /// From the nearest copy; 0 when there is one.
  double transfer_ns(Copies copies, MemoryId to, std::uint64_t bytes) const {
    if ((copies & only_in(to)) != 0 || copies == 0 || bytes == 0) return 0;
    double best = costs_[first_from(copies) * count_ + to].of(bytes);
    while ((copies &= copies - 1) != 0)
      best = std::min(best, costs_[first_from(copies) * count_ + to].of(bytes));
    return best;
  }
  /// The mean over all pairs of different memories.
  TransferCost mean() const { return mean_; }

 private:
  static std::size_t first_from(Copies copies) {
    return static_cast<std::size_t>(std::countr_zero(copies));
  }
  TransferCost& at(MemoryId from, MemoryId to) { return costs_[from * count_ + to]; }
  void grow(std::uint32_t count);

  std::vector<MemoryId> of_device_;
  std::uint32_t count_ = 1;
  bool copies_back_ = false;
  std::vector<TransferCost> costs_{1};  ///< by from and to
  TransferCost mean_;
};

}  // namespace aios::scheduler
