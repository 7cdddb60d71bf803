// Which task starts next, and where.
#include <algorithm>
#include <cassert>

#include "services/scheduler/core/core_inline.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {
namespace {

/// The next task of the tenant that was not looked at in this decision; null at the end.
const ReadyQueue::Entry* next_of(Tenant& tenant, const TaskTable& tasks) {
  return tenant.ready.peek(tenant.waiting_ahead, tasks);
}

/// Whose turn comes first. Looks at the next tasks only between tenants of one user.
bool sooner(Tenant& a, Tenant& b, const TaskTable& tasks) {
  const User& ua = *a.job->user;
  const User& ub = *b.job->user;
  if (&ua != &ub) {
    const auto order = ua.share.place() <=> ub.share.place();
    return order != 0 ? order < 0 : ua.uid < ub.uid;
  }
  const Rank& rank_a = next_of(a, tasks)->rank;
  const Rank& rank_b = next_of(b, tasks)->rank;
  if (rank_a.urgency != rank_b.urgency) return rank_a.urgency < rank_b.urgency;
  if (rank_a.due != rank_b.due) return rank_a.due < rank_b.due;
  const auto order = a.share.place() <=> b.share.place();
  return order != 0 ? order < 0 : a.id < b.id;
}

}  // namespace

bool Core::can_take(const Tenant& tenant, const Task& task, DeviceId device) const {
  if (!suits(tenant, task.record, device) || !has_room(tenant, device)) return false;
  if (task.remaining > 0 && device_ahead(task) != device) return false;
  if (!has_room_ahead(device) && is_brief(tenant, task, device)) return false;
  if (!kept_.empty() && !may_pass_gangs(tenant, task, device)) return false;
  const Context& context = tenant.job->contexts[device];
  if (context.in_flight.empty()) return true;
  return !task.suspect && !tasks_[context.in_flight.front()].suspect;
}

/// Whether it pays to look at the tasks of the tenant, of which some cannot start and let those
/// behind them pass. What is brief does not wait long enough for that to matter.
bool Core::startable(Tenant& tenant) {
  const ReadyQueue::Entry* next = next_of(tenant, tasks_);
  if (next == nullptr) return false;
  const Task& task = tasks_[next->task.slot];
  // It counts slots in its own way.
  if (in_gang(task.record)) return true;
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (has_room(tenant, d) && (has_room_ahead(d) || !is_brief(tenant, task, d))) return true;
    // Where nothing is free the first task alone says whether a further device would be of use.
    if (tenant.waiting_ahead == 0 && can_open(tenant, d) && looks_ahead_) return true;
  }
  return false;
}

void Core::open_context(Tenant& tenant, DeviceId device) {
  tenant.job->contexts[device].state = ContextState::opening;
  tenant.job->contexts[device].asked_ns = now_ns_;
  actions_.push_back({Action::Kind::open_context, {}, tenant.id, tenant.job->id, device});
}

void Core::decide(std::uint64_t now_ns) {
  now_ns_ = now_ns;
  ++decisions_;
  decide_again_ns_ = ~std::uint64_t{0};
  settle_charges();
  forget_kept_memory();
  std::erase_if(active_, [](Tenant* t) {
    t->active = !t->ready.empty();
    t->job->user->active -= t->active ? 0 : 1;
    return !t->active;
  });
  if (ready_gangs_ > 0 || !reservations_.empty() || !kept_.empty()) keep_slots();
  round_.clear();
  for (Tenant* tenant : active_) {
    tenant->waiting_ahead = 0;
    if (startable(*tenant)) round_.push_back(tenant);
  }
  if (!round_.empty() && looks_ahead_) begin_plan();
  while (!round_.empty()) {
    Tenant* next = *std::min_element(round_.begin(), round_.end(),
                                     [&](Tenant* a, Tenant* b) { return sooner(*a, *b, tasks_); });
    place_next(*next);
    std::erase_if(round_, [&](Tenant* t) { return !startable(*t); });
  }
  take_followers();
  for (Tenant* tenant : active_) want_contexts(*tenant);
}

void Core::place_next(Tenant& tenant) {
  const TaskRef ref = next_of(tenant, tasks_)->task;
  Task& task = tasks_[ref.slot];
  shunned_.clear();
  if (in_gang(task.record)) return place_gang(tenant, ref);
  if (task.remaining > 0 && !is_still_ahead(tenant, task)) return wait_again(tenant, task);
  if (looks_ahead_ && waits_on(tenant, task)) {
    ++tenant.waiting_ahead;
    return;
  }
  short_of_memory_.reset();
  fill_candidates(tenant, ref.slot);
  if (candidates_.empty()) {
    if (short_of_memory_) await_memory(task, *short_of_memory_);
    // Who has to run alone would wait for ever if others of the context passed it.
    tenant.waiting_ahead = task.suspect ? ReadyQueue::window : tenant.waiting_ahead + 1;
    return;
  }
  const PlacementFacts facts = looks_ahead_ ? facts_of(tenant, task) : PlacementFacts{now_ns_};
  Choice choice = placement_->place(facts, candidates_);
  if (looks_ahead_) heed_the_rest(tenant, task, choice);
  const Candidate& where = candidates_[choice.candidate];
  if (looks_ahead_ && !where.at_once) {
    wait_for(tenant, task, where);
    ++tenant.waiting_ahead;
    return;
  }
  tenant.ready.take(tenant.waiting_ahead, tasks_);
  why_there(task, choice);
  log_placement(task, choice);
  start(tenant, task, ref, where);
}

void Core::why_there(Task& task, const Choice& choice) {
  task.placed_because = task.remaining > 0                                      ? Reason::behind
                        : !shunned_.empty() && has_shunned_a_sooner_one(choice) ? Reason::fails
                                                                                : choice.reason;
  const DeviceId device = candidates_[choice.candidate].device;
  if (task.awaited_memory != 0)
    task.placed_because = task.awaited_memory == device + 1 ? Reason::memory_freed : Reason::memory;
  if (!looks_ahead_) {
    if (short_of_memory_) task.placed_because = Reason::memory;
    return;
  }
  const std::uint64_t end_ns = finish_ns(candidates_[choice.candidate]);
  for (const Candidate& c : candidates_)
    if (c.memory_wait_ns > 0 && finish_ns(c) - c.memory_wait_ns < end_ns)
      task.placed_because = Reason::memory;
}

void Core::fill_candidates(Tenant& tenant, Slot slot) {
  candidates_.clear();
  if (looks_ahead_) return look_ahead(tenant, slot);
  const Task& task = tasks_[slot];
  const CodeletType& codelet = tenant.codelets[task.record.codelet];
  const bool shuns = !codelet.failing.empty() && another_would_do(tenant, task);
  bool held = false;
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (!can_take(tenant, task, d)) continue;
    if (shuns && is_shunned(codelet, d)) {
      shunned_.push_back({d, devices_[d].room()});
      continue;
    }
    const MemoryRoom room =
        holds_copies(d) ? memory_room(task, d, memory_need(task, d)) : MemoryRoom::now;
    if (room == MemoryRoom::now) {
      Candidate& candidate = candidates_.emplace_back();
      candidate.device = d;
      candidate.free_slots = devices_[d].room();
    } else if (!short_of_memory_ || (held && room != MemoryRoom::held)) {
      short_of_memory_ = d;
      held = room == MemoryRoom::held;
    }
  }
}

void Core::start(Tenant& tenant, Task& task, TaskRef ref, const Candidate& where) {
  task.awaited_memory = 0;
  task.transfer = transfer_to(task, where.device);
  if (holds_copies(where.device)) take_memory(task, where.device);
  move_data(task, where.device);
  task.state = State::running;
  task.device = where.device;
  CodeletType& codelet = tenant.codelets[task.record.codelet];
  if (!codelet.failing.empty()) count_passed_over(codelet, where.device);
  ++task.attempts;
  std::vector<Slot>& in_flight = tenant.job->contexts[where.device].in_flight;
  task.in_flight_at = static_cast<std::uint32_t>(in_flight.size());
  in_flight.push_back(ref.slot);
  served(tenant);
  take_slot(ref.slot);
  assert(task.brief || task.remaining == 0);
  if (looks_ahead_) account_placement(ref, where);
  actions_.push_back({Action::Kind::start, ref, tenant.id, tenant.job->id, where.device});
  offer_successors(ref.slot);
}

/// Tasks that must wait for one device do not keep a context on another from those behind them. Who
/// looks ahead has asked for those already.
void Core::want_contexts(Tenant& tenant) {
  bool any = false;
  for (DeviceId d = 0; d < devices_.size() && !any; ++d) any = can_open(tenant, d);
  if (!any) return;
  const std::uint32_t end = looks_ahead_ ? 1 : ReadyQueue::window;
  for (std::uint32_t i = 0; i < end; ++i) {
    const ReadyQueue::Entry* next = tenant.ready.peek(i, tasks_);
    if (next == nullptr) return;
    want_context(tenant, tasks_[next->task.slot]);
  }
}

void Core::want_context(Tenant& tenant, const Task& task) {
  Job& job = *tenant.job;
  bool has_one = false;
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    const Context& context = job.contexts[d];
    if (!suits(tenant, task.record, d)) continue;
    if (context.state == ContextState::opening || context.state == ContextState::lost) return;
    has_one = has_one || context.state == ContextState::ready;
  }
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (!suits(tenant, task.record, d) || !can_open(tenant, d)) continue;
    // A further device is of use only when it has room.
    if (has_one && devices_[d].room() == 0) continue;
    return open_context(tenant, d);
  }
}

}  // namespace aios::scheduler
