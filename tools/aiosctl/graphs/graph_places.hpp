// Where the tasks of a run were placed, taken from the scheduler while it runs or afterwards: it
// remembers the last 8,192 placements, of everybody.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>

#include "tools/aiosctl/graphs/placements.hpp"

namespace aios::ctl {

/// What a record and a report need of a placement.
struct TaskPlace {
  std::uint32_t device = 0;
  bool is_predicted = false;
  float predicted_ns = 0;
  std::uint64_t submitted_ns = 0;
  std::uint64_t ready_ns = 0;
  std::uint64_t placed_ns = 0;
  std::uint64_t opening_ns = 0;
  std::uint64_t loading_ns = 0;
  std::uint64_t transfer_ns = 0;
  std::uint64_t ahead_ns = 0;
  std::uint64_t alone_ns = 0;
  std::uint32_t width = 1;
};

class GraphPlaces {
 public:
  /// Of the tasks of that job, which have tags of their own. The scheduler outlives this object.
  GraphPlaces(Client& scheduler, std::uint64_t job_id) : scheduler_(scheduler), job_id_(job_id) {}

  /// From the first placement at or after `since_ns` on.
  Result<void> begin(std::uint64_t since_ns);
  /// What has been placed since, and what has become of what was on its way.
  Result<void> take();
  /// The last one of the task with that tag, if it was taken.
  std::optional<TaskPlace> of(std::uint64_t tag) const;

 private:
  Result<Placed> after(std::uint64_t sequence);
  void note(const Placed& placed);

  Client& scheduler_;
  const std::uint64_t job_id_;
  std::uint64_t last_ = 0;
  std::unordered_map<std::uint64_t, TaskPlace> places_;  ///< by tag
  std::set<std::uint64_t> on_their_way_;                 ///< sequences
};

}  // namespace aios::ctl
