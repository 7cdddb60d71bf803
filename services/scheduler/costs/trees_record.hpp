// Runs to train trees from, and what came of a training, as bytes: between the scheduler and
// aios-trainer, and in storage. Both are checked when they are read, whoever wrote them: bytes that
// are damaged, of another version or nonsensical are refused as a whole.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "abi/proto/scheduler_trees.hpp"
#include "services/scheduler/costs/costs.hpp"
#include "services/scheduler/costs/trees.hpp"

namespace aios::scheduler {

/// One model: trees never mix modules, users, devices or quantities.
struct TreesKey {
  CodeletKey codelet;
  std::string device;   ///< its identity
  bool memory = false;  ///< peak memory; else time
  bool operator==(const TreesKey&) const = default;
};

/// The first run of a size.
struct FirstRun {
  TreeFeatures features;
  float y;     ///< logarithm of what it took
  float told;  ///< of what was predicted without trees, before it ran
};

/// At most so many of one key are trained from: the latest.
inline constexpr std::size_t max_first_runs = 512;
/// Of one training, or kept.
inline constexpr std::size_t max_trained_keys = 256;

struct KeyRuns {
  TreesKey key;
  std::vector<FirstRun> runs;  ///< the earliest first
};

using TreesVerdict = proto::scheduler::TreesVerdict;

/// How the trees of a key did on runs that they were not trained from, beside what was predicted
/// for the very same runs without them.
struct TreesReport {
  std::uint32_t trained = 0;   ///< runs that they were trained from
  std::uint32_t held_out = 0;  ///< later ones, on which they were judged
  float trees_mdape = 0;       ///< median absolute error, as a share of what it took
  float told_mdape = 0;
  float trees_error = 0;  ///< mean absolute error of the logarithm
  float told_error = 0;
  TreesVerdict verdict = TreesVerdict::too_few;
};

struct TrainedKey {
  TreesKey key;
  TreesReport report;
  std::shared_ptr<const BoostedTrees> trees;  ///< null unless promoted
};

std::vector<std::byte> write_runs(const std::vector<KeyRuns>& keys);
std::vector<std::byte> write_trained(const std::vector<TrainedKey>& keys);
/// corrupt: they are damaged, or make no sense; version_mismatch: another AIOS wrote them.
Result<std::vector<KeyRuns>> read_runs(std::span<const std::byte> bytes);
Result<std::vector<TrainedKey>> read_trained(std::span<const std::byte> bytes);

}  // namespace aios::scheduler
