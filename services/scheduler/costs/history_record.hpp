// What the scheduler has learned, as bytes that outlive it: a header with a version and a checksum,
// then devices, users, copies and codelets, each checked when it is read. Bytes that are damaged,
// of another version or nonsensical are refused as a whole; who wrote them is not trusted to be
// right, only to be the scheduler. But what copies took, by the word of a user's contexts, is left
// out by itself where it makes no sense.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "abi/proto/wire.hpp"
#include "abi/runtime/status.hpp"
#include "services/scheduler/costs/cost_models.hpp"
#include "services/scheduler/costs/costs.hpp"

namespace aios::scheduler {

inline constexpr std::size_t max_history_bytes = 4u << 20;
/// As so many samples what was learned in an earlier life counts, however many there were.
inline constexpr std::uint32_t most_restored_samples = 16;

struct SavedError {
  double value = 0;
  std::uint64_t samples = 0;
};

/// The first run of a size: what trees are trained from (trees.hpp).
struct SavedFirst {
  float y = 0;              ///< of what it took
  float told = 0;           ///< of what was predicted without trees, before
  std::uint64_t order = 0;  ///< among all first runs; 0: not known
};

/// One quantity (time, or peak memory) of one codelet on one device, over all sizes.
struct SavedTrend {
  std::uint32_t device = 0;  ///< its place in the list of devices
  std::uint32_t memory = 0;  ///< 1: peak memory; 0: time
  Regression::State regression{};
  SavedError history_error, regression_error, prior_error;
  SavedError trees_error, told_error;  ///< since there are trees, of first runs
  double z = 0;
};

/// The same of one size.
struct SavedSeries {
  std::uint32_t device = 0;
  std::uint32_t memory = 0;
  std::uint32_t samples = 0;
  std::uint32_t has_own_quantile = 0;
  double mean = 0;
  double variance = 0;
  SavedError history_error, regression_error;
  double z = 0;
  SavedFirst first;
};

struct SavedSize {
  std::uint64_t place = 0;  ///< by which the codelet knows it: its footprint, or a rough one
  Features features;
  std::vector<SavedSeries> series;
};

struct SavedCodelet {
  CodeletKey key;
  double center[3]{};
  std::vector<SavedTrend> trends;
  std::vector<SavedSize> sizes;
};

/// How far predictions of a user's graphs were off.
struct SavedBias {
  std::uint32_t user = 0;
  std::uint32_t samples = 0;
  double mean = 0;
  double variance = 0;
  double z = 0;
};

/// What copies to a device's own memory (0) and back (1), small ones and large ones, took by the
/// word of one user's contexts.
struct SavedCopies {
  struct Mean {
    double weight = 0;  ///< copies
    double bytes = 0;
    double ns = 0;
  };
  std::uint32_t device = 0;  ///< its place in the list of devices
  std::uint32_t user = 0;
  Mean means[2][2];
};

struct SavedCosts {
  std::vector<std::string> devices;    ///< their identities
  std::vector<SavedCodelet> codelets;  ///< used last first
};

/// About how many bytes it takes.
std::size_t bytes_of(const SavedCodelet& codelet);

std::vector<std::byte> write_history(const SavedCosts& costs, const std::vector<SavedBias>& users,
                                     const std::vector<SavedCopies>& copies = {});

struct SavedHistory {
  SavedCosts costs;
  std::vector<SavedBias> users;
  std::vector<SavedCopies> copies;
};
/// corrupt: they are damaged, or make no sense; version_mismatch: another AIOS wrote them.
Result<SavedHistory> read_history(std::span<const std::byte> bytes);

}  // namespace aios::scheduler
