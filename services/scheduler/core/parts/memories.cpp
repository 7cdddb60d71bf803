#include "services/scheduler/core/parts/memories.hpp"

#include <algorithm>
#include <cassert>

#include "services/scheduler/core/parts/limits.hpp"

namespace aios::scheduler {

static_assert(max_devices <= 64, "a bit of Copies for each");

void Memories::set_memory(DeviceId device, MemoryId memory) {
  assert(device < of_device_.size() && memory < max_devices);
  of_device_[device] = memory;
  grow(memory + 1);
}

void Memories::grow(std::uint32_t count) {
  if (count <= count_) return;
  std::vector<TransferCost> wider(std::size_t{count} * count);
  for (std::uint32_t from = 0; from < count_; ++from)
    for (std::uint32_t to = 0; to < count_; ++to) wider[from * count + to] = at(from, to);
  costs_ = std::move(wider);
  count_ = count;
}

void Memories::set_transfer(MemoryId from, MemoryId to, TransferCost cost) {
  assert(from < max_devices && to < max_devices && from != to);
  grow(std::max(from, to) + 1);
  at(from, to) = cost;
  mean_ = {};
  const double pairs = static_cast<double>(count_) * (count_ - 1);
  for (const TransferCost& c : costs_) {
    mean_.latency_ns += c.latency_ns / pairs;
    mean_.ns_per_byte += c.ns_per_byte / pairs;
  }
}

}  // namespace aios::scheduler
