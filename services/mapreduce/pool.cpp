#include "services/mapreduce/pool.hpp"

#include <cassert>
#include <iterator>

#include "abi/include/aios/mapreduce/format.hpp"

namespace aios::mapreduce {

std::uint64_t round_to_units(std::uint64_t bytes) {
  return (bytes + engine::unit_bytes - 1) / engine::unit_bytes * engine::unit_bytes;
}

std::uint32_t Pool::add_segment(std::uint64_t bytes) {
  const std::uint64_t usable = bytes / engine::unit_bytes * engine::unit_bytes;
  segments_.emplace_back();
  if (usable != 0) segments_.back().emplace(0, usable);
  capacity_bytes_ += usable;
  free_bytes_ += usable;
  return static_cast<std::uint32_t>(segments_.size() - 1);
}

std::optional<Slice> Pool::allocate(std::uint64_t bytes) {
  const std::uint64_t wanted = round_to_units(bytes);
  assert(wanted != 0);
  for (std::uint32_t i = 0; i < segments_.size(); ++i) {
    FreeMap& free = segments_[i];
    for (auto stretch = free.begin(); stretch != free.end(); ++stretch) {
      if (stretch->second < wanted) continue;
      const Slice slice{i, stretch->first, wanted};
      const std::uint64_t left = stretch->second - wanted;
      free.erase(stretch);
      if (left != 0) free.emplace(slice.offset + wanted, left);
      free_bytes_ -= wanted;
      return slice;
    }
  }
  return std::nullopt;
}

void Pool::shrink(Slice& slice, std::uint64_t bytes) {
  const std::uint64_t kept = round_to_units(bytes);
  assert(kept <= slice.bytes);
  if (kept < slice.bytes) insert(slice.segment, slice.offset + kept, slice.bytes - kept);
  slice.bytes = kept;
}

void Pool::free(Slice& slice) {
  if (slice.bytes != 0) insert(slice.segment, slice.offset, slice.bytes);
  slice = {};
}

void Pool::insert(std::uint32_t segment, std::uint64_t offset, std::uint64_t bytes) {
  free_bytes_ += bytes;
  FreeMap& free = segments_[segment];
  auto next = free.lower_bound(offset);
  assert(next == free.end() || offset + bytes <= next->first);
  if (next != free.end() && offset + bytes == next->first) {
    bytes += next->second;
    next = free.erase(next);
  }
  if (next != free.begin()) {
    const auto before = std::prev(next);
    assert(before->first + before->second <= offset);
    if (before->first + before->second == offset) {
      before->second += bytes;
      return;
    }
  }
  free.emplace(offset, bytes);
}

}  // namespace aios::mapreduce
