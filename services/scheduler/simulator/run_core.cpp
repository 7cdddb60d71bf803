#include <algorithm>
#include <chrono>
#include <map>
#include <queue>
#include <utility>

#include "services/scheduler/core/parts/record_check.hpp"
#include "services/scheduler/core/parts/share_out.hpp"
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
    if (now_ns_ >= end_of_time_ns)
      return error(
          Code::invalid_argument,
          run_.graph().name + " would run for longer than 285 years; are its times in seconds?");
    outcome_.makespan_ns = static_cast<double>(now_ns_ - begin_ns);
    if (run_.platform().is_recorded) outcome_.makespan_ns += run_.graph().preparation_s * 1e9;
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
  struct Loading {
    std::uint64_t since_ns;
    std::uint32_t type;
    DeviceId device;
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
        if (action.kind == Action::Kind::open_context) again = open(action) || again;
      }
      if (!again) return;
    }
  }

  /// Whether it is there at once.
  bool open(const Action& action) {
    const double takes_s = run_.platform().devices[action.device].opening_s;
    if (takes_s > 0)
      openings_.emplace(later(now_ns_, takes_s * 1e9), action.device);
    else
      core_.context_ready(action.job, action.device, now_ns_);
    job_ = action.job;
    return takes_s <= 0;
  }

  /// When the module of the type is there; the first task of it has it loaded.
  std::uint64_t loaded_ns(std::uint32_t type, DeviceId device) {
    const auto takes = run_.graph().loading_s.find({type, device});
    if (!run_.platform().is_recorded || takes == run_.graph().loading_s.end()) return 0;
    const auto [at, is_new] = loaded_.emplace(takes->first, 0);
    if (!is_new) return at->second;
    at->second = later(now_ns_, takes->second * 1e9);
    loadings_.emplace(at->second, Loading{now_ns_, type, device});
    return at->second;
  }

  /// When what it reads is there that is copied while others run, one after the other.
  std::uint64_t arrival_ns(DeviceId device, std::uint64_t from_ns, double takes_ns) {
    if (takes_ns <= 0) return from_ns;
    std::uint64_t& free_ns = ahead_[device];
    free_ns = later(std::max(free_ns, from_ns), takes_ns);
    return free_ns;
  }

  /// When the device has done it that could begin then, shared out among its threads.
  std::uint64_t finish_ns(const SimTask& task, DeviceId device, std::uint64_t from_ns,
                          double busy_ns) {
    std::vector<double>& threads = threads_[device];
    threads.resize(run_.platform().devices[device].slots, 0);
    std::ranges::sort(threads);
    const std::uint32_t width = width_of(task.threads, static_cast<std::uint32_t>(threads.size()));
    const double latency_ns = run_.platform().devices[device].latency_s * 1e9;
    const auto begin_ns = [&](std::size_t thread) {
      return std::max(threads[thread], static_cast<double>(from_ns)) + latency_ns;
    };
    const SharedOut out = share_out(width, busy_ns, begin_ns);
    std::fill_n(threads.begin(), out.threads, out.end_ns);
    return whole_ns(out.end_ns);
  }

  void start(const Action& action) {
    const Task& task = *core_.find(action.task);
    const auto index = static_cast<std::uint32_t>(task.record.tag);
    const SimTask& what = run_.graph().tasks[index];
    const double run_ns = run_.true_ns(index, action.device);
    if (options_.costs != nullptr)
      outcome_.predictions.push_back(
          {index, action.device, options_.costs->estimate(task.work, action.device), run_ns});
    outcome_.probes += task.placed_because == Reason::probe;
    outcome_.moved_bytes += static_cast<double>(task.transfer.bytes);
    const std::uint64_t loaded = std::max(now_ns_, loaded_ns(what.type, action.device));
    const Realisation::Copying copying = run_.copying(index, action.device);
    const std::uint64_t from_ns =
        arrival_ns(action.device, later(loaded, task.transfer.ns), copying.ahead_ns);
    core_.task_begun(action.task);
    ends_.push({finish_ns(what, action.device, from_ns, run_ns + copying.between_ns), task.number,
                action.task, run_ns});
  }

  /// To the next end, or to when the core wants to think again. False: there is neither.
  bool step() {
    std::uint64_t next_ns = core_.decide_again_ns();
    if (!ends_.empty()) next_ns = std::min(next_ns, ends_.top().at_ns);
    if (!openings_.empty()) next_ns = std::min(next_ns, openings_.begin()->first);
    if (!loadings_.empty()) next_ns = std::min(next_ns, loadings_.begin()->first);
    if (next_ns == ~std::uint64_t{0}) return core_.idle();
    now_ns_ = std::max(now_ns_, next_ns);
    for (; !openings_.empty() && openings_.begin()->first <= now_ns_;
         openings_.erase(openings_.begin()))
      core_.context_ready(job_, openings_.begin()->second, now_ns_);
    for (; !loadings_.empty() && loadings_.begin()->first <= now_ns_;
         loadings_.erase(loadings_.begin())) {
      const Loading& loading = loadings_.begin()->second;
      core_.module_loaded(tenant_, loading.type, loading.device, loading.since_ns, now_ns_);
    }
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
    reply.start_ns =
        end.at_ns - std::min(end.at_ns, std::max<std::uint64_t>(whole_ns(end.run_ns), 1));
    // Of the device here that had its place nothing is learned.
    if (run_.graph().tasks[index].elsewhere) reply.start_ns = reply.end_ns;
    reply.busy_ns = (reply.end_ns - reply.start_ns) * task.width;
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
  JobId job_ = 0;
  std::multimap<std::uint64_t, DeviceId> openings_;  ///< by when they are done
  std::multimap<std::uint64_t, Loading> loadings_;
  /// When modules are there, by type and device.
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> loaded_;
  std::map<DeviceId, std::vector<double>> threads_;  ///< when each is free
  std::map<DeviceId, std::uint64_t> ahead_;          ///< when all is there that is copied ahead
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
      times[task->record.tag].push_back(
          run.true_ns(static_cast<std::uint32_t>(task->record.tag), d) < 0
              ? -1
              : options.costs->estimate(task->work, d).time.mean);
  core.close_tenant(tenancy.tenant);
  return times;
}

Result<Outcome> run_core(const Realisation& run, const RunOptions& options) {
  return Machine(run, options, TRY(make_policy(options.policy))).go();
}

}  // namespace aios::scheduler::sim
