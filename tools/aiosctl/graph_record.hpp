// What a record of a run says of the devices: where its tasks ran, and what else than their runs
// took time there. `aiosctl simulate --graph` reads it.
#pragma once

#include <nlohmann/json.hpp>

#include "tools/aiosctl/graph_run.hpp"

namespace aios::ctl {

/// WfFormat's `machines`: the devices that ran something. Under `aios` in each: what the opening of
/// a context there took, the loading of each codelet's module, and how long a task that could begin
/// did not, on average.
nlohmann::json recorded_machines(const GraphSource& source, const GraphRun& run);

/// Until the first task came to the scheduler: its buffers had to be made.
double preparation_s(const GraphRun& run);

/// Adds to a task of WfFormat's where it ran, on how many threads, and what copying its data took.
void record_place(const GraphSource& source, const GraphRun& run, const PartitionReport& report,
                  const TaskReport& task, nlohmann::json& executed);

}  // namespace aios::ctl
