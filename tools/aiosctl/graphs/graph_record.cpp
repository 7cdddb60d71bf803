#include "tools/aiosctl/graphs/graph_record.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace aios::ctl {

namespace {

using nlohmann::json;

double seconds(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

/// A task as it ran.
struct Ran {
  const TaskReport* task;
  std::string codelet;
};

bool is_id_character(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
         c == '_' || c == '.';
}

std::uint32_t device_of(const TaskReport& task) {
  return task.placed->device;
}

const proto::scheduler::TaskRecord& record_of(const GraphSource& source,
                                              const PartitionReport& report,
                                              const TaskReport& task) {
  const auto at = static_cast<std::size_t>(&task - report.tasks.data());
  return source.graph().tasks[report.places[at]].record;
}

std::map<std::uint32_t, std::vector<Ran>> by_device(const GraphSource& source,
                                                    const GraphRun& run) {
  std::map<std::uint32_t, std::vector<Ran>> ran;
  for (const PartitionReport& report : run.partitions())
    for (const TaskReport& task : report.tasks) {
      if (!task.placed || device_of(task) >= run.devices().size()) continue;
      const std::uint32_t device = device_of(task);
      ran[device].push_back({&task, source.graph().codelets[task.codelet].name});
    }
  return ran;
}

/// When each thread of the device is done with what began before.
class Lanes {
 public:
  explicit Lanes(std::uint32_t threads) : ends_(threads) {}
  /// When the first was free for a task that keeps so many busy until then.
  std::uint64_t take(std::uint32_t threads, std::uint64_t end_ns) {
    std::ranges::sort(ends_);
    const std::uint64_t free_ns = ends_.front();
    for (std::size_t i = 0; i < std::min<std::size_t>(threads, ends_.size()); ++i)
      ends_[i] = std::max(ends_[i], end_ns);
    return free_ns;
  }

 private:
  std::vector<std::uint64_t> ends_;
};

/// From when a task could begin, by those that it waited for, its device, its context, its module
/// and what was copied ahead, to when it did, less the rest of the copying.
double mean_latency_s(std::vector<Ran> ran, std::uint32_t threads) {
  std::ranges::sort(ran, {}, [](const Ran& r) { return r.task->done.start_ns; });
  std::uint64_t open_ns = ~std::uint64_t{0};
  // The first that needs a module is placed, and then that is loaded.
  std::map<std::string, const Ran*> first;
  for (const Ran& r : ran) {
    open_ns = std::min(open_ns, r.task->placed->placed_ns);
    const Ran*& known = first[r.codelet];
    if (known == nullptr || r.task->placed->placed_ns < known->task->placed->placed_ns) known = &r;
  }
  Lanes lanes(threads);
  std::uint64_t arrived_ns = 0;
  double sum_s = 0;
  for (const Ran& r : ran) {
    const auto& placed = *r.task->placed;
    const auto& done = r.task->done;
    std::uint64_t could_ns =
        std::max({placed.ready_ns, open_ns, lanes.take(placed.width, done.end_ns)});
    const auto& loads = *first.at(r.codelet)->task->placed;
    could_ns = std::max(could_ns, loads.placed_ns + loads.loading_ns);
    if (placed.ahead_ns > 0) {
      const std::uint64_t from_ns = std::max({placed.placed_ns, open_ns, arrived_ns});
      arrived_ns = from_ns + placed.ahead_ns;
      could_ns = std::max(could_ns, arrived_ns);
    }
    const std::uint64_t between_ns = placed.transfer_ns - placed.ahead_ns;
    sum_s += seconds(done.start_ns) - seconds(could_ns) - seconds(between_ns);
  }
  return std::max(sum_s / static_cast<double>(ran.size()), 0.0);
}

}  // namespace

RecordIds::RecordIds(const GraphSource& source, const GraphRun& run) : run_(run) {
  std::set<std::string> used;
  for (std::size_t number = 0; number < run.partitions().size(); ++number) {
    const PartitionReport& report = run.partitions()[number];
    std::vector<std::string>& ids = ids_.emplace_back();
    std::vector<std::vector<std::size_t>>& children = children_.emplace_back(report.tasks.size());
    for (std::size_t task = 0; task < report.tasks.size(); ++task) {
      const std::string& name = source.graph().tasks[report.places[task]].name;
      std::string id = source.input() ? fmt::format("{:05}.{}", number, name) : name;
      std::ranges::replace_if(
          id, [](char c) { return !is_id_character(c); }, '_');
      while (!used.insert(id).second) id += "_";
      ids.push_back(std::move(id));
      for (const std::size_t parent : report.tasks[task].parents) children[parent].push_back(task);
    }
  }
}

json RecordIds::parents_of(std::size_t partition, std::size_t task) const {
  json ids = json::array();
  for (const std::size_t parent : run_.partitions()[partition].tasks[task].parents)
    ids.push_back(of(partition, parent));
  return ids;
}

json RecordIds::children_of(std::size_t partition, std::size_t task) const {
  json ids = json::array();
  for (const std::size_t child : children_[partition][task]) ids.push_back(of(partition, child));
  return ids;
}

std::string executed_at(const GraphRun& run) {
  const auto ago = std::chrono::nanoseconds(now_ns() - run.submitted_ns());
  const std::time_t then = std::chrono::system_clock::to_time_t(
      std::chrono::system_clock::now() - std::chrono::duration_cast<std::chrono::seconds>(ago));
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(then));
}

double preparation_s(const GraphRun& run) {
  std::uint64_t first_ns = ~std::uint64_t{0};
  for (const PartitionReport& report : run.partitions())
    for (const TaskReport& task : report.tasks)
      if (task.placed) first_ns = std::min(first_ns, task.placed->submitted_ns);
  const std::uint64_t from_ns = run.submitted_ns();
  return first_ns == ~std::uint64_t{0} ? 0 : seconds(first_ns - std::min(first_ns, from_ns));
}

std::size_t unplaced_tasks(const GraphRun& run) {
  std::size_t count = 0;
  for (const PartitionReport& report : run.partitions())
    for (const TaskReport& task : report.tasks)
      count += task.done.start_ns != 0 && !task.placed && !report.skipped;
  return count;
}

json recorded_machines(const GraphSource& source, const GraphRun& run) {
  json machines = json::array();
  for (const auto& [device, ran] : by_device(source, run)) {
    std::uint64_t opening_ns = 0;
    json loading = json::object();
    for (const Ran& r : ran) {
      opening_ns = std::max(opening_ns, r.task->placed->opening_ns);
      if (const std::uint64_t ns = r.task->placed->loading_ns; ns > 0)
        loading[r.codelet] = std::max(loading.value(r.codelet, 0.0), seconds(ns));
    }
    const auto& listed = run.devices()[device].device;
    const std::uint32_t threads = std::max(listed.threads, 1u);
    machines.push_back({{"nodeName", ran.front().task->device},
                        {"cpu", {{"coreCount", threads}}},
                        {"aios",
                         {{"kind", listed.kind.view()},
                          {"backend", listed.backend.view()},
                          {"queueDepth", listed.queue_depth},
                          {"openingInSeconds", seconds(opening_ns)},
                          {"loadingInSeconds", loading},
                          {"latencyInSeconds", mean_latency_s(ran, threads)}}}});
  }
  return machines;
}

void record_place(const GraphSource& source, const GraphRun& run, const PartitionReport& report,
                  const TaskReport& task, json& executed) {
  if (!task.placed || device_of(task) >= run.devices().size()) return;
  const proto::scheduler::TaskRecord& record = record_of(source, report, task);
  executed["machines"] = json::array({task.device});
  executed["coreCount"] =
      std::min(task.placed->width, std::max(run.devices()[device_of(task)].device.threads, 1u));
  executed["aios"] = {{"pinned", record.device != 0},
                      {"transferInSeconds", seconds(task.placed->transfer_ns)},
                      {"aheadInSeconds", seconds(task.placed->ahead_ns)}};
}

}  // namespace aios::ctl
