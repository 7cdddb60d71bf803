// Runs a graph in virtual time: by the scheduler's own core, or by a plan made beforehand (HEFT).
//
// The machine: a task takes its slot while what it reads and is not there is brought over, and then
// while it runs. Data stays where it was read or written; who writes has the only copy. A device
// does its tasks in the order in which they come to it, each on as many of its threads as it keeps
// busy. Where the devices are those of a recorded run, contexts are opened and modules loaded
// first, as long as that took then, and before that as long as it took to submit the first task;
// and a task keeps its device busy for its copies, too, but for those that the device made then
// while others ran.
// HEFT does without all that, and gives each task one slot.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "services/scheduler/policy/policy.hpp"
#include "services/scheduler/simulator/realisation.hpp"

namespace aios::scheduler::sim {

/// A prediction and what became of it.
struct Prediction {
  std::uint32_t task;
  DeviceId device;
  Estimate estimate;
  double actual_ns;
};

struct Outcome {
  double makespan_ns = 0;
  std::uint32_t deadline_misses = 0;
  std::uint32_t probes = 0;
  double moved_bytes = 0;
  std::vector<Prediction> predictions;  ///< of policies that look ahead
  std::vector<double> decision_ns;      ///< real time, for each task started
};

struct RunOptions {
  std::string policy = "learned";
  /// For policies that look ahead; may learn.
  Costs* costs = nullptr;
  /// Of each task, absolute in virtual time, which begins at 0; empty: none.
  std::vector<double> deadlines_ns;
};

/// By the core. invalid_argument: it would end in 285 years or later.
Result<Outcome> run_core(const Realisation& run, const RunOptions& options);

/// The time that a plan expects of a task; < 0: it cannot run there.
using PlannedTimes = std::vector<std::vector<double>>;  ///< ns, by task and device
PlannedTimes true_times(const Realisation& run);
/// What each task takes on average over all runs: perfect models, without knowing the future.
PlannedTimes expected_times(const Realisation& run);
/// What the costs say beforehand.
Result<PlannedTimes> estimated_times(const Realisation& run, const RunOptions& options);

/// HEFT with insertion: tasks by upward rank, each where it is planned to finish first; then the
/// plan is carried out, every slot keeping to its sequence, with the times of the run.
Outcome run_heft(const Realisation& run, const PlannedTimes& times);

}  // namespace aios::scheduler::sim
