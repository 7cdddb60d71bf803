// Who owns the blocks of the data file: free, used, or read by a get after its object went.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "services/storage/disk_io.hpp"
#include "services/storage/metadata.hpp"

namespace aios::storage {

/// The data file grows by this much at a time.
inline constexpr std::uint64_t growth_bytes = 64u << 20;
inline constexpr std::uint64_t max_data_file_bytes = 4ull << 40;
/// Of the file system's size, at most max_reserve_bytes, is left alone by puts, so that the
/// metadata of removals still finds room on a full disk.
inline constexpr std::uint64_t reserve_percent = 5;
inline constexpr std::uint64_t max_reserve_bytes = 1ull << 30;
/// Metadata with this much room of its own takes small values on any disk.
inline constexpr std::uint64_t ample_reusable_bytes = 4u << 20;

class Space {
 public:
  /// `disk` outlives it.
  explicit Space(DiskIo& disk) : disk_(disk) {}

  /// Rebuilds the free map. corrupt when objects overlap; io_error.
  Result<> load(Metadata& metadata);

  /// Extents of together `blocks` blocks; none while the file grows: ask again when `growing` has
  /// become false. no_space.
  Result<std::optional<std::vector<Extent>>> allocate(std::uint64_t blocks);
  bool growing() const { return growing_; }

  /// Whether a small value may still go to the metadata, which may take half of the reserve and
  /// has `reusable_bytes` of its own. no_space; io_error.
  Result<> check_inline_room(std::uint64_t reusable_bytes);

  /// Frees extents that no committed object names.
  void release(const std::vector<Extent>& extents);
  std::uint64_t free_blocks() const { return allocator_.free_blocks(); }

  /// Frees what a commit displaced, once nobody reads it.
  void displace(std::vector<Displaced> displaced);
  /// Between the two, the blocks of this version are not used again. Pins are counted.
  void pin(std::uint64_t version);
  void unpin(std::uint64_t version);

 private:
  struct Pin {
    std::uint32_t readers = 0;
    std::vector<Extent> release_after;
  };
  Result<std::uint64_t> room_bytes(std::uint64_t reserve_divisor);
  Result<> grow(std::uint64_t missing_blocks);

  DiskIo& disk_;
  ExtentAllocator allocator_;
  std::map<std::uint64_t, Pin> pins_;
  bool growing_ = false;
  std::optional<Status> grow_failed_;
};

}  // namespace aios::storage
