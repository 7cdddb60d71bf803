// The bytes of boosted trees, and of the runs that they are trained from: whoever wrote them,
// reading them ends, and what is accepted predicts a number within its bounds and is written as it
// was read.
#include <xxhash.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "services/scheduler/costs/trees_record.hpp"
#include "tests/fuzz/entry.hpp"

namespace {

using namespace aios;
using namespace aios::scheduler;

/// Where a record's checksum stands, and what it is of.
constexpr std::size_t checksum_at = 16;
constexpr std::size_t body_at = 24;

/// So that what stands behind the checksum is reached, too.
void mend_checksum(std::vector<std::byte>& bytes) {
  if (bytes.size() < body_at) return;
  const std::uint64_t sum = XXH3_64bits(bytes.data() + body_at, bytes.size() - body_at);
  std::memcpy(bytes.data() + checksum_at, &sum, sizeof sum);
}

void demand(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "== finding: %s\n", what);
  std::abort();
}

void ask(const BoostedTrees& trees) {
  for (const float value : {-1e9F, -1.0F, 0.0F, 0.5F, 7.0F, 20.0F, 1e9F}) {
    TreeFeatures features;
    features.fill(value);
    const float told = trees.predict(features);
    demand(told >= trees.parts().lowest - 3.001F && told <= trees.parts().highest + 3.001F,
           "a prediction beyond its bounds");
  }
}

void read_everything(const std::vector<std::byte>& bytes) {
  if (const auto trained = read_trained(bytes)) {
    for (const TrainedKey& one : *trained)
      if (one.trees) ask(*one.trees);
    demand(write_trained(*trained) == bytes, "trees are written otherwise than they were read");
  }
  if (const auto runs = read_runs(bytes))
    demand(write_runs(*runs) == bytes, "runs are written otherwise than they were read");
}

void write_seed(const std::string& path, const std::vector<std::byte>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.put('\1');
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

void write_seeds(const std::string& folder) {
  const TreesKey key{{7, 1000, "work"}, "cpu", false};
  const BoostedTrees::Parts parts{
      {1, 0.5F, 0},
      2,
      9,
      {0, 3},
      {{8, 0, 1}, {1, TreeNode::leaf, 0}, {2, TreeNode::leaf, 0}, {3, TreeNode::leaf, 0}}};
  const TreesReport good{60, 20, 0.1F, 0.2F, 0.1F, 0.2F, TreesVerdict::promoted};
  const TreesReport bad{60, 20, 0.2F, 0.1F, 0.2F, 0.1F, TreesVerdict::no_better};
  write_seed(
      folder + "/trees",
      write_trained(
          {{key, good, std::make_shared<const BoostedTrees>(BoostedTrees::create(parts).value())},
           {{{7, 1000, "work"}, "gpu", true}, bad, nullptr}}));
  write_seed(folder + "/runs", write_runs({{key, {{{1, 2, 3, 4, 5, 6}, 7, 8}}}, {key, {}}}));
}

void run(std::span<const std::uint8_t> input) {
  if (input.empty()) return;
  const auto after = std::as_bytes(input.subspan(1));
  std::vector<std::byte> bytes(after.begin(), after.end());
  if (input[0] != 0) mend_checksum(bytes);
  read_everything(bytes);
}

}  // namespace

AIOS_FUZZ_PROGRAM(write_seeds, run)
