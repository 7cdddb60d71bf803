#include "services/scheduler/simulator/platform.hpp"

#include <charconv>
#include <optional>
#include <sstream>

#include "services/scheduler/core/parts/limits.hpp"

namespace aios::scheduler::sim {
namespace {

template <class Number>
bool parse(std::string_view text, Number& value) {
  const auto end = text.data() + text.size();
  const auto [at, failure] = std::from_chars(text.data(), end, value);
  return failure == std::errc{} && at == end && !text.empty();
}

Result<void> add_devices(const std::string& item, Platform& platform) {
  const auto wrong = [&](const std::string& what) {
    return error(Code::invalid_argument,
                 "'" + item + "': " + what + "; write KIND:COUNT[@SPEED], such as cpu:8,gpu:2@20");
  };
  const std::size_t colon = item.find(':');
  if (colon == std::string::npos || colon == 0) return wrong("no count is given");
  const std::string kind = item.substr(0, colon);
  const std::size_t at = item.find('@', colon);
  std::uint32_t count = 0;
  double speed = 1;
  if (!parse(std::string_view(item).substr(colon + 1, at - colon - 1), count) || count == 0)
    return wrong("the count is no number from 1 on");
  if (at != std::string::npos &&
      (!parse(item.substr(at + 1), speed) || !(speed >= 0.001) || !(speed <= 1e6)))
    return wrong("the speed is no number from 0.001 to 10^6");
  if (kind == "cpu") {
    if (count > max_slots_per_device) return wrong("at most 192 cores");
    platform.devices.push_back(
        {"cpu" + std::to_string(platform.devices.size()), kind, count, host_memory, speed});
  }
  for (std::uint32_t i = 0; kind != "cpu" && i < count; ++i) {
    if (platform.devices.size() == max_devices) break;
    platform.devices.push_back(
        {kind + std::to_string(platform.devices.size()), kind, 1, platform.memories++, speed});
  }
  if (platform.devices.size() >= max_devices) return wrong("at most 63 devices");
  return {};
}

}  // namespace

std::uint32_t Platform::slots() const {
  std::uint32_t sum = 0;
  for (const SimDevice& device : devices) sum += device.slots;
  return sum;
}

Result<double> Platform::time_s(const Graph& graph, const SimTask& task, DeviceId id) const {
  if (is_recorded) return recorded_time_s(task, id);
  const SimDevice& device = devices[id];
  const TaskType& type = graph.types[task.type];
  if (measured.empty()) return task.work_s / (1 + (device.speed - 1) * type.acceleration);
  const auto by_kind = measured.find(type.name);
  if (by_kind == measured.end() || !by_kind->second.contains(device.kind))
    return error(Code::not_found, "task type '" + type.name + "' has no variant for " +
                                      device.kind +
                                      ": the performance models have no time of it "
                                      "there; choose other devices or another machine's models");
  return by_kind->second.at(device.kind) / device.speed;
}

/// As it was; elsewhere as others of its type there took longer or less.
double Platform::recorded_time_s(const SimTask& task, DeviceId device) const {
  if (task.device == device) return task.work_s;
  if (task.pinned || (backends_of(task.type) & devices[device].backend) == 0) return -1;
  const auto there = recorded_means_s.find({task.type, device});
  const auto here = recorded_means_s.find({task.type, task.device});
  if (there == recorded_means_s.end() || here == recorded_means_s.end()) return task.work_s;
  return task.work_s * there->second / here->second;
}

std::uint32_t Platform::backends_of(std::uint32_t type) const {
  std::uint32_t backends = 0;
  for (const auto& [key, mean] : recorded_means_s)
    if (key.first == type) backends |= devices[key.second].backend;
  return backends == 0 ? proto::driver::backend::all : backends;
}

RecordedMeans recorded_means_s(const Graph& graph) {
  RecordedMeans means;
  std::map<std::pair<std::uint32_t, DeviceId>, std::uint32_t> counts;
  for (const SimTask& task : graph.tasks) {
    if (task.device == not_recorded) continue;
    const double n = ++counts[{task.type, task.device}];
    double& mean = means[{task.type, task.device}];
    mean += (task.work_s - mean) / n;
  }
  return means;
}

Platform recorded_platform(const Graph& graph) {
  Platform platform;
  platform.is_recorded = true;
  platform.recorded_means_s = recorded_means_s(graph);
  for (const RecordedDevice& device : graph.recorded_devices)
    platform.devices.push_back({device.name, device.kind, 1, host_memory, 1, device.backend,
                                device.opening_s, device.latency_s, device.queue_depth});
  for (const SimTask& task : graph.tasks) {
    if (task.device == not_recorded) continue;
    const RecordedDevice& device = graph.recorded_devices[task.device];
    // Where each task takes all threads they run one after the other.
    if (task.threads < device.threads) platform.devices[task.device].slots = device.threads;
  }
  return platform;
}

Result<Platform> parse_devices(const std::string& spec) {
  Platform platform;
  std::istringstream items(spec);
  std::optional<std::string> models;
  for (std::string item; std::getline(items, item, ',');) {
    if (item.starts_with("models:"))
      models = item.substr(7);
    else
      TRY(add_devices(item, platform));
  }
  if (platform.devices.empty())
    return error(Code::invalid_argument,
                 "no devices are named; write KIND:COUNT[@SPEED],... such as cpu:8,gpu:2@20");
  if (models) TRY(read_starpu_models(*models, platform));
  return platform;
}

}  // namespace aios::scheduler::sim
