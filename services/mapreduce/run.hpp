// A sorted run as the service knows it: where its partitions lie, and a sparse index of their keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "abi/include/aios/mapreduce/format.hpp"
#include "abi/runtime/status.hpp"

namespace aios::mapreduce {

struct RunInfo {
  std::uint64_t records = 0;
  std::uint64_t counters[engine::max_counters] = {};
  std::vector<engine::PartitionEntry> partitions;
  std::vector<engine::IndexEntry> index;

  /// Bytes [begin, end) of a partition within which all its records with prefixes in
  /// [begin_prefix, end_prefix) lie.
  std::pair<std::uint64_t, std::uint64_t> extent(std::uint32_t partition,
                                                 std::uint64_t begin_prefix, bool has_end,
                                                 std::uint64_t end_prefix) const;
};

/// Reads what a map task wrote: `run` is memory that others may write to meanwhile, so it is copied
/// before it is checked. invalid_argument when it is no run of `partitions` partitions.
Result<RunInfo> read_run(std::span<const std::byte> run, std::uint32_t partitions);

/// Prefixes that cut a partition of all these runs into ranges of about `range_bytes`.
std::vector<std::uint64_t> choose_boundaries(const std::vector<const RunInfo*>& runs,
                                             std::uint32_t partition, std::uint64_t range_bytes);

}  // namespace aios::mapreduce
