// What gangs mean for ranks and for admission: all of a gang wait for the last of it, and slots
// that one leaves may be too few for the next (MODELS.md).
#include <algorithm>
#include <map>
#include <vector>

#include "services/scheduler/core.hpp"
#include "services/scheduler/record_check.hpp"

namespace aios::scheduler {
namespace {

/// Ways through gangs that wait for one another lengthen step by step; each pass sees one more.
constexpr int max_passes = 16;

/// One gang, in one of the ways in which its graph could run.
struct Width {
  std::uint64_t devices;  ///< where it may run, a bit each
  std::uint32_t slots;    ///< of these
  std::uint32_t size;
  double takes_ns;  ///< its shortest member: its slot is free then
};

/// At most slots/k gangs of k or more members run whole at once, which each does until its first
/// member ends: how long that takes at least, for the worst k and the worst set of devices.
double least_ns(std::vector<Width> gangs) {
  std::ranges::sort(gangs, [](const Width& a, const Width& b) {
    return a.devices != b.devices ? a.devices < b.devices : a.size > b.size;
  });
  double least = 0;
  double sum = 0;
  for (std::size_t i = 0; i < gangs.size(); ++i) {
    if (i == 0 || gangs[i].devices != gangs[i - 1].devices) sum = 0;
    sum += gangs[i].takes_ns;
    least = std::max(least, sum / std::max(gangs[i].slots / gangs[i].size, 1u));
  }
  return least;
}

}  // namespace

/// What follows one of a gang waits for all of it: each has the longest way of them, and so have
/// those before it.
void Core::rank_gangs(Tenant& tenant, std::span<const std::uint32_t> numbers) {
  std::uint32_t steps = 0;
  for (const std::uint32_t number : numbers) {
    const auto at = tenant.gangs.find(number);
    if (at == tenant.gangs.end()) continue;
    std::uint64_t longest_ns = 0;
    for (const TaskRef& ref : at->second.members)
      longest_ns = std::max(longest_ns, tasks_[ref.slot].upward_rank_ns);
    for (const TaskRef& ref : at->second.members) {
      Task& task = tasks_[ref.slot];
      if (task.state != State::waiting && task.state != State::gathered) continue;
      task.upward_rank_ns = longest_ns;
      rank_predecessors(task, ~std::uint64_t{0}, steps);
    }
  }
}

/// Of a graph that is asked about, before it is: its members begin with the last of their gang, and
/// it is busy at least as long as its gangs are one after the other.
void Core::count_gangs(Tenant& tenant, HeldGraph& graph) {
  struct OfGang {
    HeldGraph::ByWay<double> start_ns{}, whole_ns{};  ///< whole: until its first member ends
    HeldGraph::ByWay<std::uint64_t> devices{};
    std::uint32_t size = 1;
    std::uint32_t members = 0;  ///< in the graph
  };
  std::map<std::uint32_t, OfGang> gangs;
  std::vector<HeldGraph::ByWay<double>> takes_ns(graph.tasks.size());
  for (std::size_t i = 0; i < graph.tasks.size(); ++i) {
    const Task* task = tasks_.find(graph.tasks[i]);
    if (task == nullptr) continue;
    const HeldGraph::ByWay<Times> times = times_by_way(tenant, *task);
    for (std::size_t way = 0; way < HeldGraph::ways_count; ++way)
      takes_ns[i][way] = times[way].quickest_ns;
    if (!in_gang(task->record)) continue;
    const auto [at, is_new] = gangs.try_emplace(task->record.gang);
    OfGang& gang = at->second;
    gang.size = task->record.gang_size;
    ++gang.members;
    if (is_new) gang.whole_ns = takes_ns[i];
    for (std::size_t way = 0; way < HeldGraph::ways_count; ++way) {
      gang.whole_ns[way] = std::min(gang.whole_ns[way], takes_ns[i][way]);
      for (DeviceId d = 0; d < devices_.size(); ++d)
        if (devices_[d].usable &&
            (way == HeldGraph::anywhere ? has_code_for(tenant, task->record, d)
                                        : suits(tenant, task->record, d)))
          gang.devices[way] |= std::uint64_t{1} << d;
    }
  }
  if (gangs.empty()) return;
  bool longer = true;
  for (int pass = 0; pass < max_passes && longer; ++pass) {
    longer = false;
    for (std::size_t i = 0; i < graph.tasks.size(); ++i) {
      const Task* task = tasks_.find(graph.tasks[i]);
      if (task == nullptr) continue;
      HeldGraph::ByWay<double> at_ns = longest_before(tenant, graph, task->record);
      OfGang* gang = in_gang(task->record) ? &gangs.at(task->record.gang) : nullptr;
      for (std::size_t way = 0; way < HeldGraph::ways_count; ++way) {
        if (gang != nullptr) {
          longer = longer || at_ns[way] > gang->start_ns[way];
          at_ns[way] = gang->start_ns[way] = std::max(gang->start_ns[way], at_ns[way]);
        }
        at_ns[way] += takes_ns[i][way];
        double& path_ns = graph.demands[way].critical_path_ns;
        path_ns = std::max(path_ns, at_ns[way]);
      }
      graph.longest_ns[graph.tasks[i].slot] = at_ns;
    }
  }
  for (std::size_t way = 0; way < HeldGraph::ways_count; ++way) {
    std::vector<Width> widths;
    for (const auto& [number, gang] : gangs) {
      // Of the others it is not known how long they take.
      if (gang.members < gang.size) continue;
      std::uint32_t slots = 0;
      for (DeviceId d = 0; d < devices_.size(); ++d)
        if ((gang.devices[way] >> d & 1) != 0) slots += devices_[d].slots;
      widths.push_back({gang.devices[way], slots, gang.size, gang.whole_ns[way]});
    }
    double& work_ns = graph.demands[way].work_ns;
    const double least = least_ns(std::move(widths));
    if (least <= work_ns || work_ns <= 0) continue;
    graph.stretch[way] = least / work_ns;
    work_ns = least;
  }
}

}  // namespace aios::scheduler
