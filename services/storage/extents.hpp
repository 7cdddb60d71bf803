// Which 64 KiB blocks of the data file are free.
//
// The free map is never stored: it is rebuilt at start from the extents that the metadata names, so
// that blocks of an interrupted put are free again without a log.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "abi/proto/storage.hpp"
#include "abi/runtime/status.hpp"

namespace aios::storage {

using proto::storage::block_bytes;

/// A run of blocks; both counts are in blocks of `block_bytes`.
struct Extent {
  std::uint64_t start;
  std::uint64_t blocks;
  bool operator==(const Extent&) const = default;
};

/// Greatest run of blocks that one extent names.
inline constexpr std::uint64_t max_extent_blocks = (64u << 20) / block_bytes;

constexpr std::uint64_t blocks_for(std::uint64_t size_bytes) {
  return size_bytes / block_bytes + (size_bytes % block_bytes != 0);
}

/// Best fit over runs of free blocks; an object that fits no single run gets several extents.
class ExtentAllocator {
 public:
  /// Adds blocks at the end: [capacity, new_capacity) become free.
  void grow_to(std::uint64_t new_capacity_blocks);

  /// Marks blocks as used while the map is rebuilt. corrupt when a part of it is used already or
  /// lies beyond the capacity.
  Result<> reserve(const Extent& extent);

  /// Extents of together `blocks` blocks, in the order in which they hold an object. no_space when
  /// fewer are free; then nothing changed.
  Result<std::vector<Extent>> allocate(std::uint64_t blocks);

  /// Precondition: allocated or reserved before, not released since.
  void release(const Extent& extent);

  std::uint64_t capacity_blocks() const { return capacity_; }
  std::uint64_t free_blocks() const { return free_; }

 private:
  void add(std::uint64_t start, std::uint64_t blocks);
  void take(std::uint64_t start, std::uint64_t blocks);

  std::map<std::uint64_t, std::uint64_t> runs_;                // start -> blocks, never adjacent
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_size_;  // the same as (blocks, start)
  std::uint64_t capacity_ = 0;
  std::uint64_t free_ = 0;
};

}  // namespace aios::storage
