#include "services/mapreduce/run.hpp"

#include <algorithm>
#include <cstring>

namespace aios::mapreduce {

namespace {

std::unexpected<Status> damaged(const char* what) {
  return error(Code::invalid_argument,
               std::string("the job's map task wrote a run that makes no sense: ") + what);
}

bool within(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return length <= size && offset <= size - length;
}

/// The index entries of a partition ascend and lie within it.
bool index_in_order(const RunInfo& info, const engine::PartitionEntry& partition) {
  for (std::uint32_t i = 0; i < partition.index_count; ++i) {
    const engine::IndexEntry& entry = info.index[partition.index_first + i];
    if (entry.offset >= partition.bytes) return false;
    if (i == 0) {
      if (entry.offset != 0) return false;
      continue;
    }
    const engine::IndexEntry& before = info.index[partition.index_first + i - 1];
    if (entry.offset <= before.offset || entry.prefix < before.prefix) return false;
  }
  return true;
}

}  // namespace

Result<RunInfo> read_run(std::span<const std::byte> run, std::uint32_t partitions) {
  engine::RunHeader header;
  const std::uint64_t table_bytes = partitions * sizeof(engine::PartitionEntry);
  if (run.size() < sizeof header + table_bytes) return damaged("it is too short");
  std::memcpy(&header, run.data(), sizeof header);
  if (header.magic != engine::run_magic || header.partitions != partitions)
    return damaged("its header is wrong");
  const std::uint64_t index_bytes = header.index_count * sizeof(engine::IndexEntry);
  if (!within(header.index_offset, index_bytes, run.size())) return damaged("its index is outside");

  RunInfo info;
  info.records = header.records;
  std::copy(std::begin(header.counters), std::end(header.counters), info.counters);
  info.partitions.resize(partitions);
  std::memcpy(info.partitions.data(), run.data() + sizeof header, table_bytes);
  info.index.resize(header.index_count);
  if (index_bytes != 0)
    std::memcpy(info.index.data(), run.data() + header.index_offset, index_bytes);
  for (const engine::PartitionEntry& partition : info.partitions) {
    if (!within(partition.offset, partition.bytes, run.size()))
      return damaged("a partition is outside");
    if (!within(partition.index_first, partition.index_count, info.index.size()) ||
        (partition.bytes != 0) != (partition.index_count != 0) || !index_in_order(info, partition))
      return damaged("its index is not in order");
  }
  return info;
}

std::pair<std::uint64_t, std::uint64_t> RunInfo::extent(std::uint32_t partition,
                                                        std::uint64_t begin_prefix, bool has_end,
                                                        std::uint64_t end_prefix) const {
  const engine::PartitionEntry& entry = partitions[partition];
  const auto first = index.begin() + entry.index_first;
  const auto last = first + entry.index_count;
  const auto below = [](const engine::IndexEntry& e, std::uint64_t prefix) {
    return e.prefix < prefix;
  };
  const auto begin = std::lower_bound(first, last, begin_prefix, below);
  const std::uint64_t from = begin == first ? 0 : std::prev(begin)->offset;
  const auto end = has_end ? std::lower_bound(first, last, end_prefix, below) : last;
  const std::uint64_t to = end == last ? entry.bytes : end->offset;
  return {std::min(from, to), to};
}

std::vector<std::uint64_t> choose_boundaries(const std::vector<const RunInfo*>& runs,
                                             std::uint32_t partition, std::uint64_t range_bytes) {
  struct Piece {
    std::uint64_t prefix;
    std::uint64_t bytes;
  };
  std::vector<Piece> pieces;
  for (const RunInfo* run : runs) {
    const engine::PartitionEntry& entry = run->partitions[partition];
    for (std::uint32_t i = 0; i < entry.index_count; ++i) {
      const engine::IndexEntry& at = run->index[entry.index_first + i];
      const std::uint64_t end =
          i + 1 < entry.index_count ? run->index[entry.index_first + i + 1].offset : entry.bytes;
      pieces.push_back({at.prefix, end - at.offset});
    }
  }
  std::sort(pieces.begin(), pieces.end(),
            [](const Piece& a, const Piece& b) { return a.prefix < b.prefix; });
  std::vector<std::uint64_t> boundaries;
  std::uint64_t gathered = 0;
  for (const Piece& piece : pieces) {
    const std::uint64_t before = boundaries.empty() ? 0 : boundaries.back();
    if (gathered >= range_bytes && piece.prefix > before) {
      boundaries.push_back(piece.prefix);
      gathered = 0;
    }
    gathered += piece.bytes;
  }
  return boundaries;
}

}  // namespace aios::mapreduce
