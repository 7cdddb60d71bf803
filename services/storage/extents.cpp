#include "services/storage/extents.hpp"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <string>

namespace aios::storage {

void ExtentAllocator::add(std::uint64_t start, std::uint64_t blocks) {
  runs_.emplace(start, blocks);
  by_size_.emplace(blocks, start);
}

void ExtentAllocator::take(std::uint64_t start, std::uint64_t blocks) {
  runs_.erase(start);
  by_size_.erase({blocks, start});
}

void ExtentAllocator::grow_to(std::uint64_t new_capacity_blocks) {
  if (new_capacity_blocks <= capacity_) return;
  const Extent fresh{capacity_, new_capacity_blocks - capacity_};
  capacity_ = new_capacity_blocks;
  release(fresh);
}

Result<> ExtentAllocator::reserve(const Extent& extent) {
  auto run = runs_.upper_bound(extent.start);
  const bool found = extent.blocks != 0 && run != runs_.begin();
  if (found) --run;
  if (!found || extent.start - run->first > run->second ||
      run->second - (extent.start - run->first) < extent.blocks)
    return error(Code::corrupt, "two objects claim block " + std::to_string(extent.start) +
                                    " of the data file, or it lies outside");
  const auto [start, blocks] = *run;
  take(start, blocks);
  const std::uint64_t before = extent.start - start;
  const std::uint64_t after = blocks - before - extent.blocks;
  if (before != 0) add(start, before);
  if (after != 0) add(extent.start + extent.blocks, after);
  free_ -= extent.blocks;
  return {};
}

Result<std::vector<Extent>> ExtentAllocator::allocate(std::uint64_t blocks) {
  if (blocks > free_) return error(Code::no_space, "too few free blocks in the data file");
  std::vector<Extent> extents;
  while (blocks != 0) {
    const std::uint64_t wanted = std::min(blocks, max_extent_blocks);
    auto fit = by_size_.lower_bound({wanted, 0});
    if (fit == by_size_.end()) fit = std::prev(by_size_.end());
    const auto [run_blocks, start] = *fit;
    const Extent extent{start, std::min(wanted, run_blocks)};
    take(start, run_blocks);
    if (extent.blocks < run_blocks) add(start + extent.blocks, run_blocks - extent.blocks);
    free_ -= extent.blocks;
    blocks -= extent.blocks;
    extents.push_back(extent);
  }
  return extents;
}

void ExtentAllocator::release(const Extent& extent) {
  assert(extent.blocks != 0 && extent.start + extent.blocks <= capacity_);
  std::uint64_t start = extent.start;
  std::uint64_t blocks = extent.blocks;
  auto next = runs_.lower_bound(start);
  assert(next == runs_.end() || start + blocks <= next->first);
  if (next != runs_.begin()) {
    const auto previous = std::prev(next);
    assert(previous->first + previous->second <= start);
    if (previous->first + previous->second == start) {
      start = previous->first;
      blocks += previous->second;
    }
  }
  if (next != runs_.end() && extent.start + extent.blocks == next->first) {
    blocks += next->second;
    take(next->first, next->second);
  }
  if (start != extent.start) take(start, extent.start - start);
  add(start, blocks);
  free_ += extent.blocks;
}

}  // namespace aios::storage
