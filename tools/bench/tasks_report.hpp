// What `bench tasks` prints.
#pragma once

#include "tools/bench/tasks.hpp"

namespace aios::bench {

/// One JSON object (abi/schema/bench-tasks.json, for one policy).
void print_json(const TaskFigures& figures, const TaskOptions& options);
void print_table(const TaskFigures& figures);

}  // namespace aios::bench
