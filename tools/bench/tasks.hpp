// The cases of `bench tasks`: how long a task takes from the program through scheduler and context
// and back, and the smallest grain at which half of the machine does useful work (METG, Slaughter
// et al., "Task Bench", SC 2020).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "abi/runtime/status.hpp"
#include "tools/bench/patterns.hpp"

namespace aios::bench {

struct TaskOptions {
  std::string socket;  ///< of an instance with a CPU driver and a scheduler
  std::string module;  ///< bench-spin.so
  std::string peers;   ///< folder with the programs of other systems, if they were built
  std::uint32_t tasks = 100'000;
  int rounds = 3;
  bool with_metg = true;
  std::vector<Pattern> patterns{std::begin(all_patterns), std::end(all_patterns)};
};

/// Medians over the rounds. A system that is not installed is not among the figures.
struct TaskFigures {
  std::map<std::string, std::map<std::string, double>> ns_per_task;  ///< by pattern and system
  std::map<std::string, std::map<std::string, double>> metg_us;
};

Result<TaskFigures> measure_tasks(const TaskOptions& options);

}  // namespace aios::bench
