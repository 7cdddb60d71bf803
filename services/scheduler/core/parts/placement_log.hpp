// The last placements: what was known when a task was placed, and what came of it. For
// `aiosctl explain`, `bottlenecks` and `trace`; nothing is decided by it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "abi/proto/scheduler.hpp"
#include "services/scheduler/core/parts/listing.hpp"

namespace aios::scheduler {

class PlacementLog {
 public:
  using Reply = proto::scheduler::PlacementNext::Reply;
  using Candidate = proto::scheduler::LoggedCandidate;
  static constexpr std::size_t capacity = 8192;

  /// What is cleared for each placement.
  struct Facts {
    std::uint64_t sequence = 0;
    std::uint64_t number = 0;
    std::uint64_t tag = 0;
    std::uint64_t job_id = 0;
    std::uint64_t submitted_ns = 0;
    std::uint64_t ready_ns = 0;
    std::uint64_t after_number = 0;
    std::uint64_t placed_ns = 0;
    std::uint64_t start_ns = 0;
    std::uint64_t end_ns = 0;
    std::uint64_t peak_memory_bytes = 0;
    std::uint64_t opening_ns = 0;
    std::uint64_t loading_ns = 0;
    std::uint64_t transfer_ns = 0;
    std::uint64_t ahead_ns = 0;
    std::uint64_t alone_ns = 0;
    std::uint32_t user = 0;
    std::uint32_t state = 0;
    std::uint32_t status = 0;
    std::uint32_t attempts = 0;
    std::uint32_t dependency_count = 0;
    std::uint8_t reason = 0;
    std::uint8_t considered = 0;
    std::uint8_t candidate_count = 0;
    std::uint8_t width = 0;
  };
  /// As small as it can be, for the whole log does not fit a cache: names are shared, and lists
  /// valid as far as their counts say.
  struct Entry : Facts {
    SharedNames names;
    std::array<Candidate, proto::scheduler::max_logged_candidates> candidates;
    std::array<std::uint32_t, proto::scheduler::max_dependencies> dependencies;
  };
  static Reply describe(const Entry& entry);

  /// Instead of the oldest: its facts cleared but for sequence and user, its names to be set. Valid
  /// until the next call.
  Entry& add(std::uint32_t user);
  /// Null when it is gone.
  Entry* find(std::uint64_t sequence);
  /// The first after `after` that `user` may see; null at the end.
  const Entry* next(std::uint64_t after, std::uint32_t user, bool all_users) const;
  /// The last one of that task.
  const Entry* of_task(std::uint64_t number, std::uint32_t user, bool all_users) const;

 private:
  const Entry* kept(std::uint64_t sequence) const;

  std::vector<Entry> ring_;
  std::uint64_t last_ = 0;
};

}  // namespace aios::scheduler
