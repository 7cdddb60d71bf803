// What a placement that looks ahead is shown, and what follows from its choice.
#include <algorithm>
#include <cassert>
#include <utility>

#include "services/scheduler/core/core_inline.hpp"

namespace aios::scheduler {

void Core::begin_plan() {
  for (Timeline& timeline : timelines_) timeline.begin_plan(now_ns_);
}

/// What comes after a task is told as if nothing else wanted the devices. The more tasks do, the
/// less that is so.
double Core::weight_of_onward(const Tenant& tenant) const {
  if (memories_.is_one() || !placement_->looks_onward()) return 0;
  return 1.0 / (1 + tenant.ready.size());
}

void Core::look_ahead(Tenant& tenant, Slot slot) {
  Task& task = tasks_[slot];
  const double onward = weight_of_onward(tenant);
  const CodeletType& codelet = tenant.codelets[task.record.codelet];
  const bool shuns = !codelet.failing.empty() && another_would_do(tenant, task);
  bool any_at_once = false, any_stalled = false;
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    const DeviceState& state = devices_[d];
    const Context& context = tenant.job->contexts[d];
    if (!state.usable || !suits(tenant, task.record, d)) continue;
    if (task.remaining > 0 && device_ahead(task) != d) continue;
    if (context.state == ContextState::closing) continue;
    if (context.state == ContextState::none && context.refused) continue;
    const bool is_open = context.state == ContextState::ready;
    const bool alone =
        !context.in_flight.empty() && (task.suspect || tasks_[context.in_flight.front()].suspect);
    Candidate& c = candidates_.emplace_back();
    c.device = d;
    c.free_slots = state.room();
    c.free_ns = timelines_[d].free_ns();
    // What was planned before it on this device has the slots that there are.
    const bool brief = is_brief(tenant, task, d);
    const bool has_slot = c.free_slots == 0 || c.free_ns <= now_ns_;
    c.at_once = is_open && !alone && has_room(tenant, d) &&
                (brief ? has_room_ahead(d) : has_slot || state.would_queue());
    if (!kept_.empty() && !may_pass_gangs(tenant, task, d)) {
      c.at_once = false;
      c.free_ns = std::max(c.free_ns, kept_from_[d]);
    }
    const bool is_stalled = context.state == ContextState::stalled;
    c.opens = !is_open && !is_stalled && has_slot && c.free_slots > 0;
    const std::uint32_t width = width_on(task.record, d);
    c.width = brief ? 1 : width;
    c.stretch = brief ? width : 1;
    c.cost = &costs_->estimate(task.work, d);
    if (c.width > 1)
      c.free_ns = std::max(c.free_ns, timelines_[d].free_ns(c.width, c.cost->time.mean));
    else if (c.at_once && (brief || has_slot))
      c.free_ns = now_ns_;
    // It goes to the context at once, and begins after those that are there.
    if (brief && c.at_once) c.free_ns += state.ahead_ns / std::max(state.slots, 1u);
    if (!is_open) c.free_ns = std::max(c.free_ns, now_ns_ + state.open_ns);
    if (!is_loaded(tenant, task, d)) c.free_ns += state.load_ns;
    c.backend = state.backend;
    const Transfer transfer = planned_transfer_to(task, d);
    c.transfer_ns = static_cast<std::uint64_t>(transfer.ns);
    c.transfer_bytes = transfer.bytes;
    heed_memory(task, c);
    if (onward > 0)
      c.onward_ns = static_cast<std::uint64_t>(onward * onward_.after_ns(slot, memories_.of(d)));
    if (shuns && is_shunned(codelet, d)) {
      shunned_.push_back(c);
      candidates_.pop_back();
      continue;
    }
    any_at_once = any_at_once || c.at_once;
    any_stalled = any_stalled || is_stalled;
  }
  if (any_stalled) leave_out_stalled(*tenant.job);
  // Nothing to choose between where all are busy: the next decision comes with the first that is
  // not.
  if (candidates_.empty() || any_at_once) return;
  wait_for(tenant, task, *std::ranges::min_element(candidates_, {}, [](const Candidate& c) {
             return std::pair(!memory_fits(c), through_ns(c));
           }));
  candidates_.clear();
}

/// Nobody knows when they go on: only what nothing else may run waits for that.
void Core::leave_out_stalled(const Job& job) {
  const auto goes_on = [&](const Candidate& c) {
    return job.contexts[c.device].state != ContextState::stalled;
  };
  const auto would_do = [&](const Candidate& c) { return goes_on(c) && memory_fits(c); };
  if (std::ranges::any_of(candidates_, would_do))
    std::erase_if(candidates_, [&](const Candidate& c) { return !goes_on(c); });
}

PlacementFacts Core::facts_of(Tenant& tenant, const Task& task) {
  const Task& first = tasks_[tenant.ready.top(tasks_).task.slot];
  const std::uint64_t longest = std::max(first.upward_rank_ns, task.upward_rank_ns);
  return {now_ns_, longest - task.upward_rank_ns};
}

/// No single task waits for a context, or the module in it, that takes longer to be there than the
/// task does elsewhere. All that are left of its codelet may be worth it: as if they were like this
/// one, and as many of them ran at a time where it goes as do now. Or a try is, of what has never
/// or not for long run there. The context opens meanwhile; the module comes with the task.
void Core::heed_the_rest(Tenant& tenant, const Task& task, Choice& choice) {
  constexpr double times_worth = 2;  // what is saved, or left to be done, must be of the wait
  const Candidate& here = candidates_[choice.candidate];
  const auto rest_ns = [left = tenant.codelets[task.record.codelet].unfinished](
                           const Candidate& c, std::uint32_t at_a_time) {
    return static_cast<double>(finish_ns(c) - c.free_ns) * left / at_a_time;
  };
  for (std::uint32_t i = 0; i < candidates_.size(); ++i) {
    const Candidate& c = candidates_[i];
    const bool opens = c.opens && can_open(tenant, c.device);
    // One that takes nothing to load, or of which that is not known, keeps nothing away.
    const bool loads =
        c.at_once && !is_loaded(tenant, task, c.device) && devices_[c.device].load_ns > 0;
    if (c.device == here.device || (!opens && !loads) || !memory_fits(c)) continue;
    const DeviceState& state = devices_[here.device];
    const std::uint32_t at_a_time =
        std::clamp(state.running + state.ahead + 1, 1u, std::max(state.slots / here.width, 1u));
    const double left_ns = rest_ns(here, at_a_time);
    const double least_ns = times_worth * static_cast<double>(c.free_ns - now_ns_);
    const bool gains = c.cost->samples > 0 && left_ns - rest_ns(c, 1) > least_ns;
    if (!gains && (left_ns <= least_ns || !placement_->opens_to_try({now_ns_}, c, here))) continue;
    if (opens) {
      open_context(tenant, c.device);
    } else {
      choice = {i, gains ? Reason::loads : Reason::probe};
      return;
    }
  }
}

std::uint64_t Core::plan(const Candidate& where) {
  const std::uint64_t takes_ns = finish_ns(where) - where.free_ns;
  timelines_[where.device].plan(takes_ns, where.width);
  return takes_ns;
}

void Core::wait_for(Tenant& tenant, Task& task, const Candidate& where) {
  /// How many decisions the choice stands, while nothing speaks against it.
  constexpr std::uint64_t stands_for = 32;
  if (can_open(tenant, where.device)) open_context(tenant, where.device);
  if (where.memory_wait_ns > 0) await_memory(task, where.device);
  // For a gang: the slots that are free are for those that may pass it.
  if (!kept_.empty() && !may_pass_gangs(tenant, task, where.device)) return;
  // One that is suspended may go on before the next decision.
  const bool stands = std::ranges::find(tenant.job->contexts, ContextState::stalled,
                                        &Context::state) == tenant.job->contexts.end();
  Task::Wait& wait = task.wait;
  wait = {};
  wait.device = where.device;
  wait.takes_ns = finish_ns(where) - where.free_ns;
  wait.width = where.width;
  wait.until_decision = stands ? decisions_ + stands_for : decisions_;
  wait.brings = where.transfer_bytes > 0;
  for (const Candidate& c : candidates_) {
    if (c.device == where.device) continue;
    std::uint64_t takes_ns = through_ns(c) - c.free_ns;
    takes_ns -= std::min(takes_ns, where.onward_ns);
    if (takes_ns < wait.second_takes_ns) {
      wait.second = c.device;
      std::swap(wait.second_takes_ns, takes_ns);
    }
    wait.others_take_ns = std::min(wait.others_take_ns, takes_ns);
  }
  wait_in_plan(task);
}

bool Core::waits_on(const Tenant& tenant, const Task& task) {
  const Task::Wait& wait = task.wait;
  // What waits for memory has what is free kept for it only where it is looked at.
  if (task.awaited_memory != 0) return false;
  if (decisions_ >= wait.until_decision || !devices_[wait.device].usable) return false;
  if (tenant.job->contexts[wait.device].state != ContextState::ready) return false;
  const std::uint64_t free_ns =
      timelines_[wait.device].free_ns(wait.width, static_cast<double>(wait.takes_ns));
  if (free_ns <= now_ns_) return false;
  // It can be begun now, and those behind it would be.
  if (has_room(tenant, wait.device) && devices_[wait.device].would_queue()) return false;
  const std::uint64_t done_in_ns = free_ns - now_ns_ + wait.takes_ns;
  if (wait.others_take_ns < done_in_ns) return false;
  if (wait.second_takes_ns < done_in_ns) {
    const std::uint64_t second_free_ns = std::max(timelines_[wait.second].free_ns(), now_ns_);
    if (second_free_ns - now_ns_ + wait.second_takes_ns < done_in_ns) return false;
  }
  wait_in_plan(task);
  return true;
}

void Core::wait_in_plan(const Task& task) {
  // Each moment that the device is late is one that the task is done later. When that is enough for
  // another device to be better, nothing else may happen that makes us decide again.
  constexpr std::uint64_t least_ns = 1'000'000;
  const Task::Wait& wait = task.wait;
  const std::uint64_t due_ns = timelines_[wait.device].next_end_ns(now_ns_);
  timelines_[wait.device].plan(wait.takes_ns, wait.width);
  if (wait.brings) expect_data(task, wait.device);
  const std::uint64_t elsewhere_ns = std::min(wait.second_takes_ns, wait.others_take_ns);
  if (due_ns == ~std::uint64_t{0} || elsewhere_ns == ~std::uint64_t{0}) return;
  const std::uint64_t gain_ns = elsewhere_ns - std::min(elsewhere_ns, wait.takes_ns);
  decide_again_ns_ = std::min(decide_again_ns_, due_ns + std::max(gain_ns, least_ns));
}

void Core::account_placement(TaskRef task, const Candidate& where) {
  // Of what is brief a device knows only how much there is.
  if (!tasks_[task.slot].brief) {
    (void)plan(where);
    timelines_[where.device].started(task.slot, now_ns_, finish_ns(where), where.width);
  }
  costs_->placed(tasks_[task.slot].work, where.device);
}

}  // namespace aios::scheduler
