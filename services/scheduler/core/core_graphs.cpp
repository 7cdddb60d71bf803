// Graphs with deadlines: their tasks are held back until the last has come, then the graph is
// accepted, and they start, or it is refused, and they are gone.
#include <algorithm>
#include <cassert>

#include "services/scheduler/core/core.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {

namespace wire = proto::scheduler;

Result<std::uint32_t> Core::open_graph(TenantId id, std::uint64_t deadline_ns,
                                       std::uint64_t now_ns) {
  Tenant* tenant = TRY(open(id));
  if (deadline_ns <= now_ns)
    return error(Code::invalid_argument,
                 "the graph's deadline passed " +
                     std::to_string((now_ns - deadline_ns) / 1'000'000) +
                     " ms before it was submitted; deadlines are times of the monotonic clock");
  if (tenant->held_graphs.size() >= max_held_graphs)
    return error(Code::quota, "64 graphs of this tenant wait to be admitted; admit or withdraw");
  while (++tenant->last_graph == 0 || tenant->held_graphs.contains(tenant->last_graph)) {
  }
  HeldGraph& graph = tenant->held_graphs[tenant->last_graph];
  graph.deadline_ns = deadline_ns;
  for (HeldGraph::Demand& demand : graph.demands) {
    demand.deadline_ns = deadline_ns;
    demand.user = tenant->job->user->uid;
    demand.priority = std::numeric_limits<std::int32_t>::max();
  }
  return tenant->last_graph;
}

Result<HeldGraph*> Core::held_graph(Tenant& tenant, std::uint32_t number) {
  const auto at = tenant.held_graphs.find(number);
  if (at != tenant.held_graphs.end()) return &at->second;
  return error(Code::not_found, "no graph " + std::to_string(number) + " waits to be admitted");
}

void Core::hold(Tenant& tenant, HeldGraph& graph, Slot slot) {
  Task& task = tasks_[slot];
  for (HeldGraph::Demand& demand : graph.demands)
    demand.priority = std::min(demand.priority, task.record.priority);
  if (task.state != State::waiting) return;
  task.held = true;
  ++task.remaining;
  std::uint64_t& deadline_ns = task.record.deadline_ns;
  deadline_ns = deadline_ns == 0 ? graph.deadline_ns : std::min(deadline_ns, graph.deadline_ns);
  graph.tasks.push_back({slot, task.number});
  if (costs_ == nullptr) return;
  // Until it is accepted it is in nobody's way.
  admission_.left(tenant.job->user->uid, task.record.priority, task.work_ns);
  add_to_demand(tenant, graph, slot);
}

/// What the task takes in each of the ways in which its graph could run.
HeldGraph::ByWay<Core::Times> Core::times_by_way(const Tenant& tenant, const Task& task) {
  HeldGraph::ByWay<Times> times;
  times.fill(times_of(tenant, task.record, task.work));
  if (task.record.device != 0)
    times[HeldGraph::anywhere] = times_of(tenant, task.record, task.work, true);
  if (is_join(task.record)) return times;
  const std::optional<std::uint32_t> cheaper = tenant.codelets[task.record.codelet].cheaper;
  if (!cheaper) return times;
  TaskRecord other = task.record;
  other.codelet = *cheaper;
  times[HeldGraph::cheapest] = times_of(tenant, other, work_of(tenant, other));
  if (permits_cheaper(task.record)) times[HeldGraph::permitted] = times[HeldGraph::cheapest];
  return times;
}

/// The longest way to the end of one that it depends on.
HeldGraph::ByWay<double> Core::longest_before(const Tenant& tenant, const HeldGraph& graph,
                                              const TaskRecord& record) const {
  HeldGraph::ByWay<double> longest_ns{};
  for (std::uint32_t i = 0; i < record.dependency_count; ++i) {
    const TagIndex::Entry* known = tenant.tags.find(record.dependencies[i]);
    const auto before =
        known != nullptr ? graph.longest_ns.find(known->slot) : graph.longest_ns.end();
    if (before == graph.longest_ns.end()) continue;
    for (std::size_t way = 0; way < HeldGraph::ways_count; ++way)
      longest_ns[way] = std::max(longest_ns[way], before->second[way]);
  }
  return longest_ns;
}

/// A task depends on earlier ones alone: the longest way to its end is known when it comes, but for
/// gangs (count_gangs).
void Core::add_to_demand(Tenant& tenant, HeldGraph& graph, Slot slot) {
  const Task& task = tasks_[slot];
  const HeldGraph::ByWay<Times> times = times_by_way(tenant, task);
  HeldGraph::ByWay<double> longest_ns = longest_before(tenant, graph, task.record);
  for (std::size_t way = 0; way < HeldGraph::ways_count; ++way) {
    HeldGraph::Demand& demand = graph.demands[way];
    longest_ns[way] += times[way].quickest_ns;
    demand.work_ns += times[way].together_ns;
    demand.critical_path_ns = std::max(demand.critical_path_ns, longest_ns[way]);
    if (!times[way].known) ++demand.unknown;
  }
  graph.longest_ns[slot] = longest_ns;
  graph.names_devices = graph.names_devices || task.record.device != 0;
  if (is_join(task.record) || !tenant.codelets[task.record.codelet].cheaper) return;
  ++graph.cheaper_tasks;
  if (permits_cheaper(task.record)) ++graph.permitted_tasks;
}

Result<Core::Admitted> Core::admit_graph(TenantId id, std::uint32_t number, bool withdraw,
                                         std::uint64_t now_ns) {
  Tenant* tenant = TRY(open(id));
  HeldGraph* graph = TRY(held_graph(*tenant, number));
  Admitted answer{};
  if (withdraw) {
    answer.now_ns = now_ns;
    answer.deadline_ns = graph->deadline_ns;
    answer.verdict = static_cast<std::uint32_t>(wire::Verdict::withdrawn);
  } else {
    answer = TRY(decide_about(*tenant, *graph, now_ns));
    log_graph(*tenant, answer);
  }
  // What follows may end tasks, and so close the tenant's last ones.
  HeldGraph decided = std::move(*graph);
  tenant->held_graphs.erase(number);
  if (answer.verdict == static_cast<std::uint32_t>(wire::Verdict::accepted))
    release_graph(decided, last_graph_);
  else
    drop_graph(decided);
  drop_closed_tenants();
  return answer;
}

/// Until a context of the job is there; 0 when one is.
std::uint64_t Core::open_time_ns(const Job& job) const {
  std::uint64_t least_ns = ~std::uint64_t{0};
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (!devices_[d].usable) continue;
    if (job.contexts[d].state == ContextState::ready) return 0;
    least_ns = std::min(least_ns, devices_[d].open_ns);
  }
  return least_ns == ~std::uint64_t{0} ? 0 : least_ns;
}

Result<Core::Admitted> Core::decide_about(Tenant& tenant, HeldGraph& graph, std::uint64_t now_ns) {
  if (graph.tasks.empty()) return error(Code::invalid_argument, "the graph has no task");
  Admitted answer{};
  answer.now_ns = now_ns;
  answer.deadline_ns = graph.deadline_ns;
  answer.tasks = static_cast<std::uint32_t>(graph.tasks.size());
  const GraphId id = last_graph_ + 1;
  const auto set = [&](wire::Verdict verdict, wire::Promise promise) {
    answer.verdict = static_cast<std::uint32_t>(verdict);
    answer.promise = static_cast<std::uint32_t>(promise);
    if (verdict == wire::Verdict::accepted) last_graph_ = id;
    return answer;
  };
  if (costs_ == nullptr || !order_->heeds_deadlines())
    return set(now_ns < graph.deadline_ns ? wire::Verdict::accepted : wire::Verdict::too_late,
               wire::Promise::no_policy);
  if (admission_.accepted_of(tenant.job->user->uid) >= Admission::max_accepted)
    return error(Code::quota, "256 graphs with deadlines of this user are not done");
  count_gangs(tenant, graph);
  const auto open_ns = static_cast<double>(open_time_ns(*tenant.job));
  for (HeldGraph::Demand& demand : graph.demands) {
    demand.known = demand.unknown == 0;
    demand.critical_path_ns += open_ns;
  }
  HeldGraph::Way way = HeldGraph::as_submitted;
  Forecast forecast = admission_.ask(id, graph.demands[way], now_ns);
  // Not as well only where it does not go otherwise.
  if (!forecast.accepted && graph.permitted_tasks > 0) {
    way = HeldGraph::permitted;
    forecast = admission_.ask(id, graph.demands[way], now_ns);
  }
  answer.finish_ns = forecast.finish_ns;
  answer.finish_p95_ns = forecast.finish_p95_ns;
  answer.unknown = graph.demands[way].unknown;
  const wire::Promise promise =
      answer.unknown == 0 ? wire::Promise::made : wire::Promise::unknown_costs;
  if (forecast.accepted) {
    if (way == HeldGraph::permitted) {
      answer.cheaper_tasks = graph.permitted_tasks;
      make_cheaper(tenant, graph);
    }
    // Of what was reckoned each task that ends is its part.
    for (const TaskRef& ref : graph.tasks)
      if (Task* task = tasks_.find(ref); task != nullptr && task->held)
        task->work_ns *= graph.stretch[way];
    return set(wire::Verdict::accepted, promise);
  }
  offer(graph, now_ns, answer);
  return set(forecast.harms_others ? wire::Verdict::harms_others : wire::Verdict::too_late,
             promise);
}

/// What else would do: only what is known is offered.
void Core::offer(const HeldGraph& graph, std::uint64_t now_ns, Admitted& answer) const {
  if (graph.names_devices)
    if (const Forecast better = admission_.look(graph.demands[HeldGraph::anywhere], now_ns);
        better.accepted)
      answer.anywhere_p95_ns = better.finish_p95_ns;
  if (graph.cheaper_tasks == graph.permitted_tasks || !graph.demands[HeldGraph::cheapest].known)
    return;
  const Forecast better = admission_.look(graph.demands[HeldGraph::cheapest], now_ns);
  if (!better.accepted) return;
  answer.cheaper_p95_ns = better.finish_p95_ns;
  answer.cheaper_tasks = graph.cheaper_tasks;
}

/// Its tasks that permit it are from now on of the cheaper variants of their codelets.
void Core::make_cheaper(Tenant& tenant, const HeldGraph& graph) {
  for (const TaskRef& ref : graph.tasks) {
    Task* task = tasks_.find(ref);
    if (task == nullptr || !task->held || is_join(task->record) || !permits_cheaper(task->record))
      continue;
    const std::optional<std::uint32_t> cheaper = tenant.codelets[task->record.codelet].cheaper;
    if (!cheaper) continue;
    --tenant.codelets[task->record.codelet].unfinished;
    task->record.codelet = *cheaper;
    ++tenant.codelets[*cheaper].unfinished;
    task->work = work_of(tenant, task->record);
    const Times times = times_of(tenant, task->record, task->work);
    task->mean_ns = times.mean_ns;
    task->work_ns = times.together_ns;
  }
  rank_anew(graph.tasks);
  std::vector<std::uint32_t> gangs;
  for (const TaskRef& ref : graph.tasks)
    if (const Task* task = tasks_.find(ref); task != nullptr && in_gang(task->record))
      gangs.push_back(task->record.gang);
  rank_gangs(tenant, gangs);
}

void Core::log_graph(const Tenant& tenant, const Admitted& answer) {
  GraphLog::Entry& entry = graph_log_.add(tenant.job->user->uid);
  entry.job_id = tenant.job->id;
  entry.job_name = proto::kernel::Name::from(tenant.job->name);
  entry.asked = answer;
  const bool accepted = answer.verdict == static_cast<std::uint32_t>(wire::Verdict::accepted);
  entry.state =
      static_cast<std::uint32_t>(accepted ? wire::GraphState::running : wire::GraphState::refused);
  if (accepted) running_graphs_[last_graph_].logged = entry.number;
}

void Core::release_graph(HeldGraph& graph, GraphId id) {
  std::uint64_t count = 0;
  for (const TaskRef& ref : graph.tasks)
    if (Task* task = tasks_.find(ref); task != nullptr && task->held) {
      task->graph = id;
      ++count;
    }
  if (count == 0) {
    admission_.finished(id, now_ns_, true);
    running_graphs_.erase(id);
    return;
  }
  running_graphs_[id].left = count;
  // Joins end at once, and others with them.
  for (const TaskRef& ref : graph.tasks) {
    Task* task = tasks_.find(ref);
    if (task == nullptr || !std::exchange(task->held, false)) continue;
    --task->remaining;
    start_waiting(ref.slot);
  }
}

/// The last first: none then goes because one that it depends on went, and leaves a completion.
void Core::drop_graph(HeldGraph& graph) {
  for (std::size_t i = graph.tasks.size(); i-- > 0;) {
    const Task* task = tasks_.find(graph.tasks[i]);
    if (task != nullptr && task->held)
      finish(graph.tasks[i].slot, {Code::cancelled, "its graph was refused", nullptr, true, true});
  }
}

/// A task ends: it is no longer in the way of others, and its graph may be done.
void Core::leave_graph(Task& task, const Outcome& outcome) {
  if (std::exchange(task.held, false)) {
    --task.remaining;
    return;
  }
  if (task.graph == 0) {
    if (costs_ != nullptr)
      admission_.left(task.tenant->job->user->uid, task.record.priority, task.work_ns);
    return;
  }
  const auto at = running_graphs_.find(task.graph);
  assert(at != running_graphs_.end());
  RunningGraph& graph = at->second;
  admission_.progressed(task.graph, task.work_ns);
  if (outcome.code != Code::ok) ++graph.failed;
  if (outcome.run != nullptr) graph.ended_ns = std::max(graph.ended_ns, outcome.run->end_ns);
  if (--graph.left > 0) return;
  const std::uint64_t ended_ns = graph.ended_ns == 0 ? now_ns_ : graph.ended_ns;
  admission_.finished(task.graph, ended_ns, graph.failed > 0);
  if (GraphLog::Entry* entry = graph_log_.find(graph.logged)) {
    entry->ended_ns = ended_ns;
    entry->failed = graph.failed;
    entry->state = static_cast<std::uint32_t>(graph.failed == 0 ? wire::GraphState::done
                                                                : wire::GraphState::failed);
  }
  running_graphs_.erase(at);
}

}  // namespace aios::scheduler
