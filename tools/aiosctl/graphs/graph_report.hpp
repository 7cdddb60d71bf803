// What came of a graph: for people, as JSON, as the manifest of its output, and as a record.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tools/aiosctl/common/late_file.hpp"
#include "tools/aiosctl/graphs/graph_run.hpp"

namespace aios::ctl {

/// Seconds from when something was asked; negative before it.
double seconds_between(std::uint64_t from_ns, std::uint64_t to_ns);

/// What the scheduler answered to a deadline.
nlohmann::json to_json(const GraphRun::Admitted& answer);

/// Of abi/schema/graph-run.json, without `asked` and `in_time`.
nlohmann::json to_json(const GraphSource& source, const GraphRun& run);
/// A table of tasks, or for a template of partitions, and a line below it.
void print_report(const GraphSource& source, const GraphRun& run, const std::string& in_time);

/// The first failure, with the input that it is about.
std::optional<Status> failure_of(const GraphRun& run);
/// When the last task ended.
std::uint64_t ended_ns(const GraphRun& run);

/// What manifest.json says.
std::string manifest_of(const std::string& graph, const GraphRun& run,
                        const mapreduce_client::OutputFolder& output);

/// What it did and how long that took, as WfFormat 1.5, for `aiosctl simulate --graph`.
/// invalid_argument: a task failed.
Result<void> record_run(LateFile& to, const GraphSource& source, const GraphRun& run);

}  // namespace aios::ctl
