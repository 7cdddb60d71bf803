// What jobs use, each with all jobs below it: sums of what a snapshot has seen, and rates from two.
#pragma once

#include <optional>
#include <vector>

#include "tools/aiosctl/watch/snapshot.hpp"

namespace aios::ctl {

struct JobSums {
  /// Of its processes: as its control group has counted, else of those that live.
  std::uint64_t cpu_ns = 0;
  std::uint64_t memory_bytes = 0;
  bool has_tasks = false;  ///< it has had some, of jobs that the scheduler still has
  std::uint64_t tasks_done = 0;
  std::uint64_t tasks_failed = 0;
  std::uint64_t busy_ns = 0;
  std::uint64_t waiting = 0;
  std::uint64_t running = 0;

  void operator+=(const JobSums& below);
};

/// By position in `jobs`.
std::vector<JobSums> sums_of(const Snapshot& snapshot);

struct TaskRates {
  double tasks_per_s = 0;   ///< that were done
  double busy_threads = 0;  ///< of devices, in the mean; what ran longer counts when it ended
};

struct JobRates {
  double cores = 0;  ///< that its processes used; what ended since the look before is not counted
  TaskRates tasks;

  void operator+=(const JobRates& below);
};

/// In between, by position in `now.jobs`. They are differences for each process and job alone, so
/// that who comes or goes is no use and no end of one. All 0 where no time has passed.
std::vector<JobRates> rates_of(const Snapshot& before, const Snapshot& now);
/// The same of each device. Nothing where the scheduler was silent at either look.
std::optional<std::vector<TaskRates>> device_rates_of(const Snapshot& before, const Snapshot& now);

}  // namespace aios::ctl
