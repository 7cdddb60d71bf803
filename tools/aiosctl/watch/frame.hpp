// What `aiosctl top` shows: who uses what of an instance, from two looks at it one after the other.
// Knows neither terminals nor clocks.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tools/aiosctl/watch/job_use.hpp"

namespace aios::ctl {

/// By what jobs are sorted, those with most first.
enum class SortBy { cpu, memory, tasks };

/// Jobs of programs, of all the programs of a user, and that of the servers.
struct JobRow {
  SeenJob job;
  JobSums sums;
  JobRates rates;
  int depth = 0;  ///< 1: below the job before it that has 0
};

struct Frame {
  Snapshot now;
  double seconds = 0;                                  ///< between the looks
  std::optional<std::vector<TaskRates>> device_rates;  ///< unknown with one look, or no scheduler
  std::uint64_t waiting = 0;                           ///< tasks
  std::uint64_t running = 0;
  std::vector<JobRow> jobs;  ///< sorted, with their users
};

Frame make_frame(const Snapshot& before, Snapshot now, SortBy sort);

/// Lines without control bytes; what is not known is "-". `socket`: the instance's.
std::string to_text(const Frame& frame, const std::string& socket);
/// As abi/schema/top.json has it.
nlohmann::json to_json(const Frame& frame);

/// `text`, cut to what fits: lines and columns; a line more says that some are missing.
std::string fitted(const std::string& text, std::size_t lines, std::size_t columns);

}  // namespace aios::ctl
