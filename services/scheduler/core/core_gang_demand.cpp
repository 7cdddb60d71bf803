// What gangs mean for ranks and for admission: all of a gang wait for the last of it, and slots
// that one leaves may be too few for the next (MODELS.md).
#include <tsl/robin_map.h>

#include <algorithm>
#include <map>
#include <vector>

#include "services/scheduler/core/core_inline.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {
namespace {

/// Ways through gangs that wait for one another lengthen step by step; each pass sees one more.
constexpr std::size_t max_passes = 16;
/// Of all passes together, a task each: nothing else is done meanwhile.
constexpr std::size_t max_steps = 131'072;

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

struct OfGang {
  HeldGraph::ByWay<double> start_ns{}, whole_ns{};  ///< whole: until its first member ends
  HeldGraph::ByWay<std::uint64_t> devices{};        ///< where one of it may run, a bit each
  std::uint32_t size = 1;
  std::uint32_t members = 0;  ///< in the graph

  void add(std::uint32_t gang_size, const HeldGraph::ByWay<double>& takes_ns) {
    size = gang_size;
    for (std::size_t way = 0; way < HeldGraph::ways_count; ++way)
      whole_ns[way] = members == 0 ? takes_ns[way] : std::min(whole_ns[way], takes_ns[way]);
    ++members;
  }
};

struct OfTask {
  HeldGraph::ByWay<double> takes_ns{}, end_ns{};
  std::size_t before_end = 0;  ///< of its part of `before`, which begins where the last task's ends
  OfGang* gang = nullptr;
};

/// A graph with gangs, looked up once for all passes.
struct GangGraph {
  std::vector<OfTask> tasks;
  std::vector<std::uint32_t> before;  ///< places in `tasks`, all earlier
  std::map<std::uint32_t, OfGang> gangs;

  /// The longest way through it, as far as passes see it.
  HeldGraph::ByWay<double> longest_ns() {
    HeldGraph::ByWay<double> longest{};
    const std::size_t passes = std::clamp<std::size_t>(max_steps / tasks.size(), 1, max_passes);
    bool longer = true;
    for (std::size_t i = 0; i < passes && longer; ++i) longer = pass(longest);
    return longest;
  }

 private:
  /// Whether another one would see more.
  bool pass(HeldGraph::ByWay<double>& longest) {
    bool longer = false;
    std::size_t i = 0;
    for (OfTask& task : tasks) {
      HeldGraph::ByWay<double> at_ns{};
      for (; i < task.before_end; ++i)
        for (std::size_t way = 0; way < HeldGraph::ways_count; ++way)
          at_ns[way] = std::max(at_ns[way], tasks[before[i]].end_ns[way]);
      for (std::size_t way = 0; way < HeldGraph::ways_count; ++way) {
        if (task.gang != nullptr) {
          double& start_ns = task.gang->start_ns[way];
          longer = longer || at_ns[way] > start_ns;
          at_ns[way] = start_ns = std::max(start_ns, at_ns[way]);
        }
        task.end_ns[way] = at_ns[way] + task.takes_ns[way];
        longest[way] = std::max(longest[way], task.end_ns[way]);
      }
    }
    return longer;
  }
};

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
  if (!std::ranges::any_of(graph.tasks, [&](const TaskRef& ref) {
        const Task* task = tasks_.find(ref);
        return task != nullptr && in_gang(task->record);
      }))
    return;
  GangGraph known;
  tsl::robin_map<Slot, std::uint32_t> places;
  for (const TaskRef& ref : graph.tasks) {
    const Task* task = tasks_.find(ref);
    if (task == nullptr) continue;
    OfTask of;
    const HeldGraph::ByWay<Times> times = times_by_way(tenant, *task);
    for (std::size_t way = 0; way < HeldGraph::ways_count; ++way)
      of.takes_ns[way] = times[way].quickest_ns;
    for (std::uint32_t i = 0; i < task->record.dependency_count; ++i) {
      const TagIndex::Entry* tag = tenant.tags.find(task->record.dependencies[i]);
      const auto at = tag != nullptr ? places.find(tag->slot) : places.end();
      if (at != places.end()) known.before.push_back(at->second);
    }
    of.before_end = known.before.size();
    if (in_gang(task->record)) {
      OfGang& gang = known.gangs[task->record.gang];
      gang.add(task->record.gang_size, of.takes_ns);
      of.gang = &gang;
      for (std::size_t way = 0; way < HeldGraph::ways_count; ++way)
        for (DeviceId d = 0; d < devices_.size(); ++d)
          if (devices_[d].usable &&
              (way == HeldGraph::anywhere ? has_code_for(tenant, task->record, d)
                                          : suits(tenant, task->record, d)))
            gang.devices[way] |= std::uint64_t{1} << d;
    }
    places[ref.slot] = static_cast<std::uint32_t>(known.tasks.size());
    known.tasks.push_back(of);
  }
  const HeldGraph::ByWay<double> path_ns = known.longest_ns();
  for (std::size_t way = 0; way < HeldGraph::ways_count; ++way) {
    HeldGraph::Demand& demand = graph.demands[way];
    demand.critical_path_ns = std::max(demand.critical_path_ns, path_ns[way]);
    std::vector<Width> widths;
    for (const auto& [number, gang] : known.gangs) {
      // Of the others it is not known how long they take.
      if (gang.members < gang.size) continue;
      std::uint32_t slots = 0;
      for (DeviceId d = 0; d < devices_.size(); ++d)
        if ((gang.devices[way] >> d & 1) != 0) slots += devices_[d].slots;
      widths.push_back({gang.devices[way], slots, gang.size, gang.whole_ns[way]});
    }
    const double least = least_ns(std::move(widths));
    if (least <= demand.work_ns || demand.work_ns <= 0) continue;
    graph.stretch[way] = least / demand.work_ns;
    demand.work_ns = least;
  }
}

}  // namespace aios::scheduler
