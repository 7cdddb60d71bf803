#include "services/scheduler/simulator/graph.hpp"

#include <algorithm>
#include <queue>
#include <utility>

namespace aios::scheduler::sim {
namespace {

using Successors = std::vector<std::vector<std::uint32_t>>;

Successors successors_of(const Graph& graph) {
  Successors successors(graph.tasks.size());
  for (std::uint32_t i = 0; i < graph.tasks.size(); ++i)
    for (const std::uint32_t parent : graph.tasks[i].parents) successors[parent].push_back(i);
  return successors;
}

/// Some cycle among the tasks that could not be sorted.
std::string describe_cycle(const Graph& graph, const std::vector<std::uint32_t>& waits) {
  std::uint32_t at = 0;
  while (waits[at] == 0) ++at;
  std::vector<std::uint32_t> path;
  std::vector<bool> passed(graph.tasks.size());
  while (!passed[at]) {
    passed[at] = true;
    path.push_back(at);
    at = *std::ranges::find_if(graph.tasks[at].parents,
                               [&](std::uint32_t parent) { return waits[parent] > 0; });
  }
  path.erase(path.begin(), std::ranges::find(path, at));
  constexpr std::size_t shown = 5;
  std::string text = graph.tasks[at].name;
  for (std::size_t i = 1; i < path.size() && i < shown; ++i)
    text += " needs " + graph.tasks[path[i]].name;
  if (path.size() > shown) text += " needs (" + std::to_string(path.size() - shown) + " more)";
  return text + " needs " + graph.tasks[at].name;
}

}  // namespace

Result<void> sort_topologically(Graph& graph) {
  const Successors successors = successors_of(graph);
  std::vector<std::uint32_t> waits(graph.tasks.size());
  // By number, so that tasks that are in order stay so.
  std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>> ready;
  for (std::uint32_t i = 0; i < graph.tasks.size(); ++i) {
    waits[i] = static_cast<std::uint32_t>(graph.tasks[i].parents.size());
    if (waits[i] == 0) ready.push(i);
  }
  std::vector<std::uint32_t> order;
  while (!ready.empty()) {
    const std::uint32_t task = ready.top();
    ready.pop();
    order.push_back(task);
    for (const std::uint32_t next : successors[task])
      if (--waits[next] == 0) ready.push(next);
  }
  if (order.size() < graph.tasks.size())
    return error(Code::invalid_argument,
                 "tasks depend on each other in a circle: " + describe_cycle(graph, waits) +
                     "; remove one of these dependencies");
  std::vector<std::uint32_t> place(order.size());
  for (std::uint32_t i = 0; i < order.size(); ++i) place[order[i]] = i;
  std::vector<SimTask> sorted;
  for (const std::uint32_t task : order) {
    sorted.push_back(std::move(graph.tasks[task]));
    for (std::uint32_t& parent : sorted.back().parents) parent = place[parent];
  }
  graph.tasks = std::move(sorted);
  return {};
}

Graph recorded_as(const Graph& here, Graph other) {
  std::map<std::string, std::uint32_t> types;
  std::map<std::pair<std::string, std::uint32_t>, std::uint32_t> devices;
  for (const RecordedDevice& device : here.recorded_devices)
    devices.emplace(std::pair(device.name, device.backend), devices.size());
  for (const TaskType& type : here.types) types.emplace(type.name, types.size());
  Graph mapped = std::move(other);
  std::vector<TaskType> own_types = std::exchange(mapped.types, here.types);
  std::vector<std::uint32_t> type_of, device_of;
  for (TaskType& type : own_types) {
    const auto [at, is_new] = types.emplace(type.name, mapped.types.size());
    type_of.push_back(at->second);
    if (is_new) mapped.types.push_back(std::move(type));
  }
  for (const RecordedDevice& device :
       std::exchange(mapped.recorded_devices, here.recorded_devices)) {
    const auto at = devices.find({device.name, device.backend});
    device_of.push_back(at == devices.end() ? not_recorded : at->second);
  }
  for (SimTask& task : mapped.tasks) {
    task.type = type_of[task.type];
    if (task.device != not_recorded) {
      task.device = device_of[task.device];
      task.elsewhere = task.device == not_recorded;
    }
    task.pinned = task.pinned && task.device != not_recorded;
  }
  for (const auto& [key, takes_s] : std::exchange(mapped.loading_s, {}))
    if (device_of[key.second] != not_recorded)
      mapped.loading_s[{type_of[key.first], device_of[key.second]}] = takes_s;
  return mapped;
}

Result<void> check_size(const Graph& graph) {
  const auto too_many = [&](const char* what, std::size_t is, std::size_t most) {
    return error(Code::quota, graph.name + " has " + std::to_string(is) + " " + what +
                                  "; at most " + std::to_string(most) + " can be simulated");
  };
  if (graph.tasks.empty())
    return error(Code::invalid_argument, graph.name + " has no tasks; name a graph that has some");
  if (graph.tasks.size() > max_tasks_simulated)
    return too_many("tasks", graph.tasks.size(), max_tasks_simulated);
  if (graph.types.size() > max_types_simulated)
    return too_many("types of tasks", graph.types.size(), max_types_simulated);
  if (graph.data_bytes.size() > max_data_simulated)
    return too_many("pieces of data", graph.data_bytes.size(), max_data_simulated);
  return {};
}

}  // namespace aios::scheduler::sim
