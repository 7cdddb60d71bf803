// What `aiosctl top` shows: who uses what of an instance, from two looks at it one after the other.
// Knows neither terminals nor clocks.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/aiosctl/watch/snapshot.hpp"

namespace aios::ctl {

/// By what jobs are sorted, those with most first.
enum class SortBy { cpu, memory, tasks };

/// Of the time between the two looks.
struct TaskRates {
  double tasks_per_s = 0;   ///< that ended, well or not
  double busy_threads = 0;  ///< of devices, in the mean; what ran longer counts when it ended
};

struct DeviceRow {
  std::string name;  ///< "cpu0"
  ListedDevice device;
  TaskRates rates;
};

/// Jobs of programs, of all the programs of a user, and that of the servers.
struct JobRow {
  JobUse use;
  TaskRates rates;
  double cores = 0;  ///< that its processes have used
  int depth = 0;     ///< 1: below the job before it that has 0
};

struct Frame {
  Snapshot now;
  double seconds = 0;  ///< between the looks
  TaskRates rates;
  std::uint64_t waiting = 0;  ///< tasks
  std::uint64_t running = 0;
  std::vector<DeviceRow> devices;
  std::vector<JobRow> jobs;  ///< sorted, with their users
};

/// Counters that have begun anew since (a server that was restarted) count from 0.
Frame make_frame(const Snapshot& before, Snapshot now, SortBy sort);

/// Lines without control bytes. `socket`: the instance's.
std::string to_text(const Frame& frame, const std::string& socket);
/// As abi/schema/top.json has it.
nlohmann::json to_json(const Frame& frame);

/// `text`, cut to what fits: lines and columns; a line more says that some are missing.
std::string fitted(const std::string& text, std::size_t lines, std::size_t columns);

}  // namespace aios::ctl
