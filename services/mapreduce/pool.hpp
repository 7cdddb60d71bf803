// The job's memory: slices of the regions ("segments") that its client gave.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace aios::mapreduce {

/// A part of a segment. `bytes` 0: none.
struct Slice {
  std::uint32_t segment = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// First fit in order of address, in units of `unit_bytes`. Knows only numbers.
class Pool {
 public:
  /// Returns the segment's number, counted from 0.
  std::uint32_t add_segment(std::uint64_t bytes);
  std::size_t segment_count() const { return segments_.size(); }
  std::uint64_t capacity_bytes() const { return capacity_bytes_; }
  std::uint64_t free_bytes() const { return free_bytes_; }

  /// `bytes` is rounded up to units; the slice says how many there are. Empty when no free stretch
  /// is that long.
  std::optional<Slice> allocate(std::uint64_t bytes);
  /// Keeps the first `bytes` of a slice and frees the rest.
  void shrink(Slice& slice, std::uint64_t bytes);
  /// Frees the slice and empties it. Freeing an empty one does nothing.
  void free(Slice& slice);

 private:
  using FreeMap = std::map<std::uint64_t, std::uint64_t>;  ///< offset to length

  void insert(std::uint32_t segment, std::uint64_t offset, std::uint64_t bytes);

  std::vector<FreeMap> segments_;
  std::uint64_t capacity_bytes_ = 0;
  std::uint64_t free_bytes_ = 0;
};

std::uint64_t round_to_units(std::uint64_t bytes);

}  // namespace aios::mapreduce
