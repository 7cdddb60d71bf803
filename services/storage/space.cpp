#include "services/storage/space.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <string>

namespace aios::storage {
namespace {

std::unexpected<Status> disk_full() {
  return error(Code::no_space,
               "the disk is full: remove objects, or free space on its file system");
}

}  // namespace

Result<> Space::load(Metadata& metadata) {
  // An extent beyond the end of a file that was cut short keeps its place; reading it says so.
  std::uint64_t blocks = disk_.size_bytes() / block_bytes;
  TRY(metadata.for_each_extent([&](const Extent& extent) -> Result<> {
    constexpr std::uint64_t max_blocks = max_data_file_bytes / block_bytes;
    if (extent.blocks > max_blocks || extent.start > max_blocks - extent.blocks)
      return error(Code::corrupt, "metadata: an extent lies outside any data file");
    blocks = std::max(blocks, extent.start + extent.blocks);
    return {};
  }));
  allocator_.grow_to(blocks);
  return metadata.for_each_extent([&](const Extent& extent) { return allocator_.reserve(extent); });
}

Result<std::uint64_t> Space::room_bytes(std::uint64_t reserve_divisor) {
  const DiskIo::Space space = TRY(disk_.space());
  const std::uint64_t reserve =
      std::min(space.total_bytes / 100 * reserve_percent, max_reserve_bytes) / reserve_divisor;
  return space.free_bytes > reserve ? space.free_bytes - reserve : 0;
}

Result<> Space::check_inline_room(std::uint64_t reusable_bytes) {
  if (reusable_bytes < ample_reusable_bytes && TRY(room_bytes(2)) == 0) return disk_full();
  return {};
}

Result<std::optional<std::vector<Extent>>> Space::allocate(std::uint64_t blocks) {
  if (blocks <= allocator_.free_blocks()) return TRY(allocator_.allocate(blocks));
  if (grow_failed_) {
    const Status failed = *std::exchange(grow_failed_, std::nullopt);
    return std::unexpected(failed);
  }
  if (!growing_) TRY(grow(blocks - allocator_.free_blocks()));
  return std::optional<std::vector<Extent>>();
}

Result<> Space::grow(std::uint64_t missing_blocks) {
  const std::uint64_t old_size = allocator_.capacity_blocks() * block_bytes;
  const std::uint64_t room =
      std::min(TRY(room_bytes(1)), max_data_file_bytes - std::min(old_size, max_data_file_bytes));
  if (missing_blocks > room / block_bytes) return disk_full();
  const std::uint64_t wanted = std::max(missing_blocks, growth_bytes / block_bytes);
  const std::uint64_t blocks = std::min(wanted, room / block_bytes);
  const std::uint64_t new_size = old_size + blocks * block_bytes;
  growing_ = true;
  disk_.grow(old_size, new_size, [this, new_size](std::int64_t result) {
    growing_ = false;
    if (result == 0)
      allocator_.grow_to(new_size / block_bytes);
    else if (result == -ENOSPC || result == -EDQUOT || result == -EFBIG)
      grow_failed_ = disk_full().error();
    else
      grow_failed_ =
          Status(Code::io_error, "growing the data file: errno " + std::to_string(-result));
  });
  return {};
}

void Space::release(const std::vector<Extent>& extents) {
  for (const Extent& extent : extents) allocator_.release(extent);
}

void Space::displace(std::vector<Displaced> displaced) {
  for (Displaced& one : displaced) {
    const auto pin = pins_.find(one.version);
    if (pin == pins_.end())
      release(one.extents);
    else
      pin->second.release_after = std::move(one.extents);
  }
}

void Space::pin(std::uint64_t version) {
  ++pins_[version].readers;
}

void Space::unpin(std::uint64_t version) {
  const auto pin = pins_.find(version);
  assert(pin != pins_.end());
  if (--pin->second.readers != 0) return;
  release(pin->second.release_after);
  pins_.erase(pin);
}

}  // namespace aios::storage
