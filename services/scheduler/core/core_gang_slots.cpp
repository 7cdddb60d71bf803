// Slots that are kept for gangs, so that none waits for ever for enough of them at once.
//
// The gang at the head of its tenant's queue gets a reservation: so many slots of these devices,
// and a time, when they should all be free by what is known of the tasks that hold them. Until then
// others may pass it that are predicted to be done by then; afterwards what comes free is kept.
// When it has waited a second more, tasks of other users no longer count: it starts beside them, as
// the first task of a user does.
//
// Reservations are all or nothing, in the order in which they were first asked for, each of what
// those before it leave: so gangs never wait for one another in a circle.
#include <algorithm>

#include "services/scheduler/core/core_inline.hpp"
#include "services/scheduler/core/parts/gang_fit.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {

/// At the beginning of a decision.
void Core::keep_slots() {
  do {
    forget_started_gangs();
    reserve_for_heads();
  } while (end_unplaceable_gangs());
  kept_.assign(devices_.size(), 0);
  kept_from_.assign(devices_.size(), ~std::uint64_t{0});
  for (Reservation& reservation : reservations_) keep_slots_for(reservation);
  if (std::ranges::all_of(kept_, [](std::uint32_t n) { return n == 0; })) kept_.clear();
}

/// Or ended.
void Core::forget_started_gangs() {
  std::erase_if(reservations_, [this](const Reservation& r) {
    const Task* leader = tasks_.find(r.leader);
    return leader == nullptr || leader->state != State::ready;
  });
}

/// For gangs that have come to the heads of their queues.
void Core::reserve_for_heads() {
  const std::size_t known = reservations_.size();
  for (Tenant* tenant : active_) {
    const ReadyQueue::Entry* first = tenant->ready.peek(0, tasks_);
    if (first == nullptr || !in_gang(tasks_[first->task.slot].record)) continue;
    if (std::ranges::find(reservations_, first->task, &Reservation::leader) == reservations_.end())
      reservations_.push_back({first->task, {}, 0});
  }
  std::ranges::sort(reservations_.begin() + static_cast<std::ptrdiff_t>(known), reservations_.end(),
                    {}, [](const Reservation& r) { return r.leader.number; });
}

/// What is kept for those before it is in `kept_`.
void Core::keep_slots_for(Reservation& reservation) {
  const Task& leader = tasks_[reservation.leader.slot];
  Tenant& tenant = *leader.tenant;
  const Gang& gang = gang_of(leader);
  std::vector<std::uint32_t> room(devices_.size());
  for (DeviceId d = 0; d < devices_.size(); ++d)
    if (devices_[d].usable && tenant.job->contexts[d].state == ContextState::ready)
      room[d] =
          std::min(gang_slots(gang, d), devices_[d].slots - std::min(devices_[d].slots, kept_[d]));
  if (reservation.held || !is_kept(reservation, room)) {
    reservation.kept.clear();
    if (reservation.held) return;
    const auto where = fit_gang(choices_of(gang), room);
    if (!where) return open_contexts_for(gang, tenant);
    reservation.kept.assign(devices_.size(), 0);
    for (const DeviceId d : *where) ++reservation.kept[d];
    reservation.from_ns = free_at_ns(reservation.kept);
  }
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (reservation.kept[d] == 0) continue;
    kept_[d] += reservation.kept[d];
    kept_from_[d] = std::min(kept_from_[d], reservation.from_ns);
  }
  const std::uint64_t at_last_ns = reservation.from_ns + gang_patience_ns;
  if (at_last_ns > now_ns_) decide_again_ns_ = std::min(decide_again_ns_, at_last_ns);
}

/// Whether what it was given once still is.
bool Core::is_kept(const Reservation& reservation, const std::vector<std::uint32_t>& room) const {
  const std::vector<std::uint32_t>& kept = reservation.kept;
  if (kept.empty()) return false;
  for (std::size_t d = 0; d < kept.size(); ++d)
    if (kept[d] > room[d]) return false;
  // One of its members may have ended since, or a device have come.
  std::uint64_t sum = 0;
  for (const std::uint32_t n : kept) sum += n;
  return kept.size() == room.size() &&
         sum == gang_of(tasks_[reservation.leader.slot]).members.size();
}

/// On the devices where it would go if no slot were taken.
void Core::open_contexts_for(const Gang& gang, Tenant& tenant) {
  std::vector<std::uint32_t> room(devices_.size());
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    const Context& context = tenant.job->contexts[d];
    if (devices_[d].usable && !(context.state == ContextState::none && context.refused))
      room[d] = gang_slots(gang, d);
  }
  const auto where = fit_gang(choices_of(gang), room);
  if (!where) return;
  for (const DeviceId d : *where)
    if (can_open(tenant, d)) open_context(tenant, d);
}

/// Those for which devices or contexts are gone, so that they could never start. Whether there were
/// any.
bool Core::end_unplaceable_gangs() {
  if (!all_devices_known_) return false;
  bool any = false;
  const std::vector<Reservation> reservations = reservations_;
  for (const Reservation& reservation : reservations) {
    const Task* leader = tasks_.find(reservation.leader);
    if (leader == nullptr || leader->state != State::ready) continue;
    const Gang& gang = gang_of(*leader);
    std::vector<std::uint32_t> room(devices_.size());
    for (DeviceId d = 0; d < devices_.size(); ++d) {
      const Context& context = leader->tenant->job->contexts[d];
      if (context.state != ContextState::none || !context.refused) room[d] = gang_slots(gang, d);
    }
    const auto choices = choices_of(gang);
    if (fit_gang(choices, room)) continue;
    any = true;
    finish(reservation.leader.slot,
           {Code::service_down,
            "its gang can no longer start: it has " + std::to_string(gang.members.size()) +
                " members, and of the devices that they may run on too few are left, or have no "
                "context for its job",
            nullptr, false});
  }
  return any;
}

void Core::forget_reservation(TaskRef leader) {
  const auto at = std::ranges::find(reservations_, leader, &Reservation::leader);
  if (at == reservations_.end()) return;
  for (std::size_t d = 0; d < at->kept.size() && d < kept_.size(); ++d) kept_[d] -= at->kept[d];
  reservations_.erase(at);
}

/// When so many slots of each device should be free: the tasks that hold them end as predicted, and
/// who is late is late for as long again.
std::uint64_t Core::free_at_ns(const std::vector<std::uint32_t>& kept) const {
  std::uint64_t at_ns = now_ns_;
  for (DeviceId d = 0; d < kept.size(); ++d) {
    const std::uint32_t held = devices_[d].running;
    const std::uint32_t must_end =
        held + kept[d] > devices_[d].slots ? held + kept[d] - devices_[d].slots : 0;
    if (must_end == 0 || kept[d] == 0) continue;
    std::vector<std::uint64_t> ends;
    for (const auto& [id, job] : jobs_)
      for (const Slot slot : job->contexts[d].in_flight) {
        const Task& task = tasks_[slot];
        if (!task.holds_slot || task.brief) continue;
        const std::uint64_t end_ns =
            task.slot_since_ns +
            static_cast<std::uint64_t>(std::max<std::int64_t>(task.charged_ns, 0));
        ends.push_back(end_ns >= now_ns_ ? end_ns : now_ns_ + (now_ns_ - end_ns));
      }
    if (ends.size() < must_end) continue;
    std::ranges::nth_element(ends, ends.begin() + (must_end - 1));
    at_ns = std::max(at_ns, ends[must_end - 1]);
  }
  return at_ns;
}

/// How many of the gang could start on each device now.
std::vector<std::uint32_t> Core::room_for(const Gang& gang, TaskRef leader) const {
  const Tenant& tenant = *tasks_[leader.slot].tenant;
  const User* const user = tenant.job->user;
  const auto own = std::ranges::find(reservations_, leader, &Reservation::leader);
  const bool has_waited = own != reservations_.end() && !own->kept.empty() &&
                          now_ns_ >= own->from_ns + gang_patience_ns;
  const bool suspect = std::ranges::any_of(
      gang.members, [this](const TaskRef& ref) { return tasks_[ref.slot].suspect; });
  std::vector<std::uint32_t> room(devices_.size());
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    const Context& context = tenant.job->contexts[d];
    if (!devices_[d].usable || context.state != ContextState::ready) continue;
    // Who has to run alone does, and lets nobody in.
    if (!context.in_flight.empty() && (suspect || tasks_[context.in_flight.front()].suspect))
      continue;
    std::uint32_t taken = devices_[d].running;
    if (has_waited) {
      taken = 0;
      for (const auto& [id, job] : jobs_) {
        if (job->user != user) continue;
        for (const Slot slot : job->contexts[d].in_flight)
          taken += tasks_[slot].holds_slot && !tasks_[slot].brief ? 1 : 0;
      }
    }
    for (auto older = reservations_.begin(); older != own; ++older)
      if (!older->kept.empty()) taken += older->kept[d];
    room[d] = std::min(gang_slots(gang, d), devices_[d].slots - std::min(devices_[d].slots, taken));
  }
  return room;
}

/// Whether the task may start there though slots are kept: beside them, as the only one of its
/// user, or since it is done by the time when they are needed.
bool Core::may_pass_gangs(const Tenant& tenant, const Task& task, DeviceId device) const {
  const DeviceState& state = devices_[device];
  if (kept_[device] == 0 || is_brief(tenant, task, device)) return true;
  const std::uint32_t free = state.slots - std::min(state.slots, state.running);
  if (free > kept_[device]) return true;
  const User* const user = tenant.job->user;
  const bool has_own = std::ranges::any_of(reservations_, [&](const Reservation& r) {
    return !r.kept.empty() && r.kept[device] > 0 && tasks_[r.leader.slot].tenant->job->user == user;
  });
  if (user->running == 0 && !has_own) return true;
  double takes_ns = tenant.codelets[task.record.codelet].slot_ns;
  if (costs_ != nullptr) {
    const Estimate& estimate = costs_->estimate(task.work, device);
    takes_ns = estimate.level == Level::none ? 0 : estimate.time.p95;
  }
  return takes_ns > 0 &&
         static_cast<double>(now_ns_) + takes_ns <= static_cast<double>(kept_from_[device]);
}

}  // namespace aios::scheduler
