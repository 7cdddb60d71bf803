#include "drivers/gpu/memory/owned_memory.hpp"

#include <algorithm>
#include <atomic>

namespace aios::gpu {

void OwnedMemory::begin_use() {
  for (Slot& slot : slots_)
    if (slot) slot->in_use = false;
}

Result<std::uint64_t> OwnedMemory::rounded(std::uint64_t length) const {
  const std::uint64_t unit = maker_.granularity();
  if (length == 0) return error(Code::invalid_argument, "no memory of zero bytes");
  if (length > UINT64_MAX - unit) return error(Code::no_memory, "no device has as much memory");
  return (length + unit - 1) / unit * unit;
}

Result<OwnedMemory::Taken> OwnedMemory::take(const Key& key) {
  for (std::uint32_t at = 0; at < slots_.size(); ++at) {
    Slot& slot = slots_[at];
    if (!slot || slot->in_use || slot->key != key) continue;
    Fd descriptor = TRY(maker_.share(slot->made));
    slot->in_use = true;
    slot->used = ++uses_;
    return Taken{at, slot->bytes, true, std::move(descriptor)};
  }
  const std::uint64_t bytes = TRY(rounded(key.length));
  const std::uint32_t at = TRY(free_slot());
  const MemoryMaker::Number made = TRY(make(bytes));
  auto descriptor = maker_.share(made);
  if (!descriptor) {
    maker_.release(made);
    budget_.give_back(bytes);
    return std::unexpected(std::move(descriptor).error());
  }
  std::atomic_ref(ledger_[at]).store(0, std::memory_order_release);
  slots_[at] = Allocation{key, bytes, made, true, ++uses_};
  return Taken{at, bytes, false, std::move(*descriptor)};
}

Result<std::uint32_t> OwnedMemory::free_slot() {
  do {
    const auto slot = std::ranges::find_if(slots_, [](const Slot& one) { return !one; });
    if (slot != slots_.end()) return static_cast<std::uint32_t>(slot - slots_.begin());
  } while (drop_oldest_unused());
  return error(Code::quota, "a tenant has at most " + std::to_string(slots_.size()) +
                                " pieces of device memory that outlive its context");
}

/// Within the limit, and counted.
Result<MemoryMaker::Number> OwnedMemory::make(std::uint64_t bytes) {
  auto within = budget_.take(bytes);
  while (!within && drop_oldest_unused()) within = budget_.take(bytes);
  if (!within) return std::unexpected(std::move(within).error());
  auto made = maker_.make(bytes);
  while (!made && made.error().code() == Code::no_memory && drop_oldest_unused())
    made = maker_.make(bytes);
  if (!made) budget_.give_back(bytes);
  return made;
}

bool OwnedMemory::drop_oldest_unused() {
  auto oldest = slots_.end();
  for (auto slot = slots_.begin(); slot != slots_.end(); ++slot)
    if (*slot && !(*slot)->in_use && (oldest == slots_.end() || (*slot)->used < (*oldest)->used))
      oldest = slot;
  if (oldest == slots_.end()) return false;
  free(static_cast<std::uint32_t>(oldest - slots_.begin()));
  return true;
}

Result<void> OwnedMemory::drop(std::uint32_t slot) {
  if (slot >= slots_.size() || !slots_[slot] || !slots_[slot]->in_use)
    return error(Code::not_found, "no device memory is in use at " + std::to_string(slot));
  free(slot);
  return {};
}

void OwnedMemory::drop_unused() {
  while (drop_oldest_unused()) {
  }
}

void OwnedMemory::free(std::uint32_t slot) {
  maker_.release(slots_[slot]->made);
  budget_.give_back(slots_[slot]->bytes);
  slots_[slot].reset();
}

std::uint64_t OwnedMemory::count() const {
  return static_cast<std::uint64_t>(
      std::ranges::count_if(slots_, [](const Slot& slot) { return slot.has_value(); }));
}

std::uint64_t OwnedMemory::bytes() const {
  std::uint64_t sum = 0;
  for (const Slot& slot : slots_) sum += slot ? slot->bytes : 0;
  return sum;
}

}  // namespace aios::gpu
