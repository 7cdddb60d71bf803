#include <algorithm>
#include <chrono>
#include <queue>

#include "services/scheduler/record_check.hpp"
#include "services/scheduler/simulator/core_tasks.hpp"
#include "services/scheduler/simulator/known_costs.hpp"

namespace aios::scheduler::sim {
namespace {

double real_ns() {
  return std::chrono::duration<double, std::nano>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class Machine {
 public:
  Machine(const Realisation& run, const RunOptions& options, Policy policy)
      : run_(run),
        options_(options),
        core_(
            std::move(policy.order), std::move(policy.placement),
            options.costs == nullptr ? nullptr : std::make_unique<BorrowedCosts>(*options.costs)) {}

  Result<Outcome> go() {
    add_platform(core_, run_);
    const Tenancy tenancy = TRY(open_tenancy(core_, run_));
    tenant_ = tenancy.tenant;
    TRY(submit_all(core_, tenant_, records_of(run_, tenancy, options_)));
    while (!core_.idle()) {
      decide();
      if (!step())
        return error(Code::internal, "the core let tasks wait although nothing runs at " +
                                         std::to_string(now_ns_ - begin_ns) + " ns");
    }
    outcome_.makespan_ns = static_cast<double>(now_ns_ - begin_ns);
    core_.close_tenant(tenant_);
    return std::move(outcome_);
  }

 private:
  struct End {
    std::uint64_t at_ns;
    std::uint64_t number;
    TaskRef task;
    double run_ns;
    bool operator>(const End& other) const {
      return at_ns != other.at_ns ? at_ns > other.at_ns : number > other.number;
    }
  };

  void decide() {
    while (true) {
      const double before = real_ns();
      core_.decide(now_ns_);
      const double took = real_ns() - before;
      const std::vector<Action> actions = core_.take_actions();
      const auto starts = std::ranges::count(actions, Action::Kind::start, &Action::kind);
      for (std::ptrdiff_t i = 0; i < starts; ++i)
        outcome_.decision_ns.push_back(took / static_cast<double>(starts));
      bool again = false;
      for (const Action& action : actions) {
        if (action.kind == Action::Kind::start) start(action);
        if (action.kind == Action::Kind::open_context) {
          core_.context_ready(action.job, action.device);
          again = true;
        }
      }
      if (!again) return;
    }
  }

  void start(const Action& action) {
    const Task& task = *core_.find(action.task);
    const auto index = static_cast<std::uint32_t>(task.record.tag);
    const double run_ns = run_.true_ns(index, action.device);
    if (options_.costs != nullptr)
      outcome_.predictions.push_back(
          {index, action.device, options_.costs->estimate(task.work, action.device), run_ns});
    outcome_.probes += task.placed_because == Reason::probe;
    outcome_.moved_bytes += static_cast<double>(task.transfer.bytes);
    const auto takes_ns = static_cast<std::uint64_t>(task.transfer.ns + run_ns);
    core_.task_begun(action.task);
    ends_.push({now_ns_ + takes_ns, task.number, action.task, run_ns});
  }

  /// To the next end, or to when the core wants to think again. False: there is neither.
  bool step() {
    const std::uint64_t next_ns = ends_.empty() ? ~std::uint64_t{0} : ends_.top().at_ns;
    const std::uint64_t again_ns = core_.decide_again_ns();
    if (next_ns == ~std::uint64_t{0} && again_ns == ~std::uint64_t{0}) return core_.idle();
    now_ns_ = std::max(now_ns_, std::min(next_ns, again_ns));
    while (!ends_.empty() && ends_.top().at_ns <= now_ns_) end();
    return true;
  }

  void end() {
    const End end = ends_.top();
    ends_.pop();
    const Task& task = *core_.find(end.task);
    const auto index = static_cast<std::uint32_t>(task.record.tag);
    if (task.record.deadline_ns != 0 && end.at_ns > task.record.deadline_ns)
      ++outcome_.deadline_misses;
    Core::RunReply reply{};
    reply.end_ns = end.at_ns;
    reply.start_ns = end.at_ns - std::max<std::uint64_t>(static_cast<std::uint64_t>(end.run_ns), 1);
    reply.peak_memory_bytes = run_.graph().tasks[index].memory_bytes;
    core_.task_answered(end.task, reply);
    Core::Completion done[64];
    while (core_.take_completions(tenant_, done) > 0) {
    }
  }

  const Realisation& run_;
  const RunOptions& options_;
  Core core_;
  TenantId tenant_ = 0;
  std::uint64_t now_ns_ = begin_ns;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
  Outcome outcome_;
};

}  // namespace

Result<PlannedTimes> estimated_times(const Realisation& run, const RunOptions& options) {
  Policy policy = TRY(make_policy("eager"));
  Core core(std::move(policy.order), std::move(policy.placement),
            std::make_unique<BorrowedCosts>(*options.costs));
  add_platform(core, run);
  const Tenancy tenancy = TRY(open_tenancy(core, run));
  TRY(submit_all(core, tenancy.tenant, records_of(run, tenancy, options)));
  PlannedTimes times(run.graph().tasks.size());
  // The core is new: slots and numbers go up together.
  for (Slot slot = 0; const Task* task = core.find({slot, slot + 1u}); ++slot)
    for (DeviceId d = 0; !is_join(task->record) && d < run.platform().devices.size(); ++d)
      times[task->record.tag].push_back(options.costs->estimate(task->work, d).time.mean);
  core.close_tenant(tenancy.tenant);
  return times;
}

Result<Outcome> run_core(const Realisation& run, const RunOptions& options) {
  return Machine(run, options, TRY(make_policy(options.policy))).go();
}

}  // namespace aios::scheduler::sim
