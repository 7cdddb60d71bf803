#include "services/scheduler/costs/trees_record.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "services/scheduler/costs/record_bytes.hpp"

namespace aios::scheduler {
namespace {

constexpr std::uint64_t runs_magic = 0x534E5552'534F4941;   // "AIOSRUNS"
constexpr std::uint64_t trees_magic = 0x45455254'534F4941;  // "AIOSTREE"
/// Grows with every change of what follows.
constexpr std::uint32_t trees_version = 1;
/// Logarithms of times and sizes are far below.
constexpr float most_value = 1e6F;

struct Header {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t keys;
  std::uint64_t checksum;  ///< XXH3-64 of all that follows
};

struct KeyHead {
  std::uint64_t module_hash;
  std::uint32_t user;
  std::uint32_t memory;
  proto::Text<64> function;
  DeviceText device;
};

struct RunsHead {
  KeyHead key;
  std::uint64_t runs;
};

struct TreesHead {
  KeyHead key;
  std::uint32_t trained, held_out;
  float trees_mdape, told_mdape, trees_error, told_error;
  std::uint32_t verdict;
  std::uint32_t roots;  ///< 0: no trees follow
};

struct PartsHead {
  std::array<float, 3> line;
  float lowest, highest;
  std::uint32_t nodes;
};

std::unexpected<Status> nonsense(const char* what) {
  return error(Code::corrupt, std::string("the record makes no sense: ") + what);
}

bool sane(float value) {
  return std::isfinite(value) && std::abs(value) <= most_value;
}

KeyHead head_of(const TreesKey& key) {
  return {key.codelet.module_hash, key.codelet.user, key.memory ? 1u : 0u,
          proto::Text<64>::from(key.codelet.function), DeviceText::from(key.device)};
}

Result<TreesKey> key_of(const KeyHead& head) {
  if (!head.function.valid() || !head.device.valid() || head.memory > 1 || head.module_hash == 0)
    return nonsense("a key");
  return TreesKey{{head.module_hash, head.user, std::string(head.function.view())},
                  std::string(head.device.view()),
                  head.memory == 1};
}

std::vector<std::byte> with_header(std::uint64_t magic, std::size_t keys,
                                   const std::vector<std::byte>& body) {
  Writer whole;
  whole.put(Header{magic, trees_version, static_cast<std::uint32_t>(keys),
                   XXH3_64bits(body.data(), body.size())});
  std::vector<std::byte> out = whole.take();
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

/// How many keys follow.
Result<std::uint32_t> check_header(Reader& reader, std::span<const std::byte> bytes,
                                   std::uint64_t magic) {
  const auto header = TRY(reader.get<Header>());
  if (header.magic != magic) return error(Code::corrupt, "it is no such record");
  if (header.version != trees_version)
    return error(Code::version_mismatch, "the record has version " +
                                             std::to_string(header.version) + ", not " +
                                             std::to_string(trees_version));
  const std::span<const std::byte> body = bytes.subspan(sizeof header);
  if (header.checksum != XXH3_64bits(body.data(), body.size()))
    return error(Code::corrupt, "the record is damaged: its checksum differs");
  if (header.keys > max_trained_keys) return nonsense("too many keys");
  return header.keys;
}

bool sane(const FirstRun& run) {
  return std::ranges::all_of(run.features, [](float f) { return sane(f); }) && sane(run.y) &&
         sane(run.told);
}

Result<KeyRuns> read_key_runs(Reader& reader) {
  const auto head = TRY(reader.get<RunsHead>());
  if (head.runs > max_first_runs) return nonsense("too many runs");
  KeyRuns out;
  out.key = TRY(key_of(head.key));
  out.runs = TRY(reader.get_all<FirstRun>(head.runs));
  for (const FirstRun& run : out.runs)
    if (!sane(run)) return nonsense("a run's numbers");
  return out;
}

Result<TrainedKey> read_trained_key(Reader& reader) {
  const auto head = TRY(reader.get<TreesHead>());
  TrainedKey out;
  out.key = TRY(key_of(head.key));
  for (const float value : {head.trees_mdape, head.told_mdape, head.trees_error, head.told_error})
    if (!sane(value) || value < 0) return nonsense("a key's errors");
  const bool promoted = head.verdict == static_cast<std::uint32_t>(TreesVerdict::promoted);
  if (head.verdict > static_cast<std::uint32_t>(TreesVerdict::failed) ||
      promoted != (head.roots > 0))
    return nonsense("a key's verdict");
  out.report = {head.trained,
                head.held_out,
                head.trees_mdape,
                head.told_mdape,
                head.trees_error,
                head.told_error,
                static_cast<TreesVerdict>(head.verdict)};
  if (!promoted) return out;
  const auto of_parts = TRY(reader.get<PartsHead>());
  if (head.roots > max_trees || of_parts.nodes > max_tree_nodes) return nonsense("too large trees");
  // Each by itself: what TRY leaves half way in an initialiser is not freed.
  BoostedTrees::Parts parts{of_parts.line, of_parts.lowest, of_parts.highest, {}, {}};
  parts.roots = TRY(reader.get_all<std::uint16_t>(head.roots));
  parts.nodes = TRY(reader.get_all<TreeNode>(of_parts.nodes));
  BoostedTrees trees = TRY(BoostedTrees::create(std::move(parts)));
  out.trees = std::make_shared<const BoostedTrees>(std::move(trees));
  return out;
}

}  // namespace

std::vector<std::byte> write_runs(const std::vector<KeyRuns>& keys) {
  Writer body;
  for (const KeyRuns& one : keys) {
    body.put(RunsHead{head_of(one.key), one.runs.size()});
    body.put_all(one.runs);
  }
  return with_header(runs_magic, keys.size(), body.take());
}

std::vector<std::byte> write_trained(const std::vector<TrainedKey>& keys) {
  Writer body;
  for (const TrainedKey& one : keys) {
    const TreesReport& r = one.report;
    const std::size_t roots = one.trees ? one.trees->parts().roots.size() : 0;
    body.put(TreesHead{head_of(one.key), r.trained, r.held_out, r.trees_mdape, r.told_mdape,
                       r.trees_error, r.told_error, static_cast<std::uint32_t>(r.verdict),
                       static_cast<std::uint32_t>(roots)});
    if (!one.trees) continue;
    const BoostedTrees::Parts& parts = one.trees->parts();
    body.put(PartsHead{parts.line, parts.lowest, parts.highest,
                       static_cast<std::uint32_t>(parts.nodes.size())});
    body.put_all(parts.roots);
    body.put_all(parts.nodes);
  }
  return with_header(trees_magic, keys.size(), body.take());
}

Result<std::vector<KeyRuns>> read_runs(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  const std::uint32_t count = TRY(check_header(reader, bytes, runs_magic));
  std::vector<KeyRuns> keys;
  for (std::uint32_t i = 0; i < count; ++i) keys.push_back(TRY(read_key_runs(reader)));
  if (!reader.at_end()) return nonsense("something follows its end");
  return keys;
}

Result<std::vector<TrainedKey>> read_trained(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  const std::uint32_t count = TRY(check_header(reader, bytes, trees_magic));
  std::vector<TrainedKey> keys;
  for (std::uint32_t i = 0; i < count; ++i) keys.push_back(TRY(read_trained_key(reader)));
  if (!reader.at_end()) return nonsense("something follows its end");
  return keys;
}

}  // namespace aios::scheduler
