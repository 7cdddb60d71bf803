// What a record of a run says of the devices: where its tasks ran, and what else than their runs
// took time there. `aiosctl simulate --graph` reads it.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/aiosctl/graphs/graph_run.hpp"

namespace aios::ctl {

/// What tasks are called in a record: WfFormat knows only letters, digits and `-_.` in the names of
/// parents and children.
class RecordIds {
 public:
  RecordIds(const GraphSource& source, const GraphRun& run);
  /// Of a task by its place in the report of its partition.
  const std::string& of(std::size_t partition, std::size_t task) const {
    return ids_[partition][task];
  }
  nlohmann::json parents_of(std::size_t partition, std::size_t task) const;
  nlohmann::json children_of(std::size_t partition, std::size_t task) const;

 private:
  const GraphRun& run_;
  std::vector<std::vector<std::string>> ids_;
  std::vector<std::vector<std::vector<std::size_t>>> children_;
};

/// When the first task was submitted, in UTC.
std::string executed_at(const GraphRun& run);

/// WfFormat's `machines`: the devices that ran something. Under `aios` in each: what the opening of
/// a context there took, the loading of each codelet's module, and how long a task that could begin
/// did not, on average.
nlohmann::json recorded_machines(const GraphSource& source, const GraphRun& run);

/// Until the first task came to the scheduler: its buffers had to be made.
double preparation_s(const GraphRun& run);

/// How many tasks ran of which the scheduler no longer knew where.
std::size_t unplaced_tasks(const GraphRun& run);

/// Adds to a task of WfFormat's where it ran, on how many threads, and what copying its data took.
void record_place(const GraphSource& source, const GraphRun& run, const PartitionReport& report,
                  const TaskReport& task, nlohmann::json& executed);

}  // namespace aios::ctl
