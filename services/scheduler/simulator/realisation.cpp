#include "services/scheduler/simulator/realisation.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "services/scheduler/core/parts/share_out.hpp"

namespace aios::scheduler::sim {
namespace {

/// How much more work than usual a task turns out to be, wherever it runs. The same for a task of a
/// run whatever else is drawn.
double draw_factor(const Chances& chances, std::uint32_t task) {
  if (chances.noise <= 0) return 1;
  // A hash is chance enough, and needs no state to be set up for each task.
  const std::uint64_t random = XXH3_64bits_withSeed(&task, sizeof task, chances.seed);
  // Box and Muller's, for standard libraries differ in how they draw from a normal distribution.
  const double u = (static_cast<double>(random >> 32) + 0.5) / 4294967296.0;
  const double v = (static_cast<double>(random & 0xffffffff) + 0.5) / 4294967296.0;
  const double normal = std::sqrt(-2 * std::log(u)) * std::cos(2 * M_PI * v);
  const double variance = std::log(1 + chances.noise * chances.noise);
  return std::exp(std::sqrt(variance) * normal - variance / 2);
}

}  // namespace

Result<Realisation> Realisation::draw(const Graph& graph, const Platform& platform,
                                      const Chances& chances) {
  Realisation run;
  run.graph_ = &graph;
  run.platform_ = &platform;
  run.devices_ = platform.devices.size();
  run.bus_ = platform.bus;
  run.expected_ns_.reserve(graph.tasks.size() * run.devices_);
  for (std::uint32_t t = 0; t < graph.tasks.size(); ++t) {
    const double factor = draw_factor(chances, t);
    for (DeviceId d = 0; d < run.devices_; ++d) {
      const double seconds = TRY(platform.time_s(graph, graph.tasks[t], d));
      if (seconds < 0) {
        run.expected_ns_.push_back(-1);
        run.true_ns_.push_back(-1);
        continue;
      }
      run.expected_ns_.push_back(std::max(seconds * 1e9, 1.0));
      run.true_ns_.push_back(std::max(run.expected_ns_.back() * factor, 1.0));
    }
  }
  if (chances.ccr >= 0) TRY(run.scale_bus(chances.ccr));
  return run;
}

Realisation::Copying Realisation::copying(std::uint32_t task, DeviceId device) const {
  const SimTask& what = graph_->tasks[task];
  if (!platform_->is_recorded || what.device != device) return {};
  return {what.ahead_s * 1e9, std::max(what.transfer_s - what.ahead_s, 0.0) * 1e9};
}

Result<void> Realisation::scale_bus(double ccr) {
  double bytes = 0;
  double run_ns = 0;
  for (std::uint32_t t = 0; t < graph_->tasks.size(); ++t) {
    for (const Access& access : graph_->tasks[t].accesses)
      if (access.reads()) bytes += static_cast<double>(graph_->data_bytes[access.data]);
    for (DeviceId d = 0; d < devices_; ++d)
      run_ns += expected_ns(t, d) * platform_->devices[d].slots / platform_->slots();
  }
  if (platform_->memories == 1)
    return error(Code::invalid_argument,
                 "a ratio of communication to computation needs devices with memories of their "
                 "own; add one, such as gpu:1@20");
  if (bytes <= 0)
    return error(Code::invalid_argument, graph_->name +
                                             " has no data to move, so no ratio of "
                                             "communication to computation; leave it out");
  bus_ = {0, ccr * run_ns / bytes};
  return {};
}

namespace {

double fastest_ns(const Realisation& run, std::uint32_t task) {
  double best = -1;
  for (DeviceId d = 0; d < run.platform().devices.size(); ++d) {
    const double takes_ns = run.true_ns(task, d);
    if (takes_ns >= 0 && (best < 0 || takes_ns < best)) best = takes_ns;
  }
  return best;
}

double critical_path_ns(const Realisation& run) {
  const std::vector<SimTask>& tasks = run.graph().tasks;
  std::vector<double> end(tasks.size());
  double last = 0;
  for (std::uint32_t t = 0; t < tasks.size(); ++t) {
    for (const std::uint32_t parent : tasks[t].parents) end[t] = std::max(end[t], end[parent]);
    end[t] += fastest_ns(run, t);
    last = std::max(last, end[t]);
  }
  return last;
}

/// Slots of a recorded run that it keeps busy.
double threads_of(const Realisation& run, std::uint32_t task, DeviceId device) {
  return width_of(run.graph().tasks[task].threads, run.platform().devices[device].slots);
}

/// For two groups of slots (a core against anything else): the fractional optimum, which gives
/// tasks to the faster group in the order of how much faster it is. Every task counts as the
/// fastest of its group, so that the bound holds.
double area_ns(const Realisation& run) {
  const Platform& platform = run.platform();
  struct Pair {
    double slow, fast;
  };
  std::vector<Pair> pairs;
  double slow_slots = 0, fast_slots = 0;
  for (const SimDevice& device : platform.devices)
    (device.memory == host_memory ? slow_slots : fast_slots) += device.slots;
  for (std::uint32_t t = 0; t < run.graph().tasks.size(); ++t) {
    Pair pair{-1, -1};
    for (DeviceId d = 0; d < platform.devices.size(); ++d) {
      double& of = platform.devices[d].memory == host_memory ? pair.slow : pair.fast;
      const double takes_ns = run.true_ns(t, d) * threads_of(run, t, d);
      if (takes_ns >= 0) of = of < 0 ? takes_ns : std::min(of, takes_ns);
    }
    pairs.push_back(pair);
  }
  double slow_load = 0, fast_load = 0;
  if (slow_slots == 0 || fast_slots == 0) {
    for (const Pair& p : pairs) slow_load += std::max(p.slow, p.fast);
    return slow_load / (slow_slots + fast_slots);
  }
  std::ranges::sort(pairs,
                    [](const Pair& a, const Pair& b) { return a.slow * b.fast > b.slow * a.fast; });
  // All to the slow group, then one after the other to the fast one, until they are even.
  for (const Pair& p : pairs) slow_load += p.slow;
  for (const Pair& p : pairs) {
    const double slow_after = (slow_load - p.slow) / slow_slots;
    const double fast_after = (fast_load + p.fast) / fast_slots;
    if (fast_after >= slow_after) {
      const double gap = slow_load / slow_slots - fast_load / fast_slots;
      const double share = std::max(gap, 0.0) / (p.slow / slow_slots + p.fast / fast_slots);
      return (slow_load - share * p.slow) / slow_slots;
    }
    slow_load -= p.slow;
    fast_load += p.fast;
  }
  return fast_load / fast_slots;
}

}  // namespace

double lower_bound_ns(const Realisation& run) {
  return std::max(critical_path_ns(run), area_ns(run));
}

}  // namespace aios::scheduler::sim
