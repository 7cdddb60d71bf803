// Gangs: tasks that start together, all or none. In its tenant's queue a gang stands as one of its
// members, the first by rank, when all that are left of it could start; the others are `gathered`.
// Slots are kept for it by core_gang_slots.cpp.
//
// When a context ends under some of a gang, those that may run again wait until all that are left
// of it do, and start together again. They may not where one has ended without success.
#include <algorithm>
#include <cassert>
#include <unordered_set>

#include "services/scheduler/core/core_inline.hpp"
#include "services/scheduler/core/parts/gang_fit.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {

namespace {

std::string gang_text(const proto::scheduler::TaskRecord& record) {
  return "task " + std::to_string(record.tag) + ": its gang " + std::to_string(record.gang);
}

}  // namespace

// ---- coming ------------------------------------------------------------------------------------

/// The usable devices that it may run on.
std::vector<DeviceId> Core::choices_of(const Tenant& tenant, const TaskRecord& record) const {
  std::vector<DeviceId> choices;
  for (DeviceId d = 0; d < devices_.size(); ++d)
    if (devices_[d].usable && suits(tenant, record, d)) choices.push_back(d);
  return choices;
}

/// Of each member, the quickest device first, and last those on which its codelet's tasks fail.
std::vector<std::vector<DeviceId>> Core::choices_of(const Gang& gang) const {
  std::vector<std::vector<DeviceId>> all;
  for (const TaskRef& ref : gang.members) {
    const Task& task = tasks_[ref.slot];
    std::vector<DeviceId>& choices = all.emplace_back(choices_of(*task.tenant, task.record));
    if (costs_ != nullptr)
      std::ranges::stable_sort(
          choices, {}, [&](DeviceId d) { return costs_->estimate(task.work, d).time.mean; });
    const CodeletType& codelet = task.tenant->codelets[task.record.codelet];
    std::ranges::stable_partition(choices, [&](DeviceId d) { return !is_shunned(codelet, d); });
  }
  return all;
}

/// All that the members could have, together.
std::uint64_t Core::slots_for(const std::vector<std::vector<DeviceId>>& choices) const {
  std::uint64_t slots = 0;
  for (DeviceId d = 0; d < devices_.size(); ++d)
    if (std::ranges::any_of(choices,
                            [d](const auto& of) { return std::ranges::find(of, d) != of.end(); }))
      slots += devices_[d].slots;
  return slots;
}

Result<void> Core::check_gangs(const Tenant& tenant, const BatchGangs& gangs) const {
  std::size_t more = 0;
  for (const auto& [number, records] : gangs) {
    const auto known = tenant.gangs.find(number);
    const bool is_new = known == tenant.gangs.end();
    const std::uint32_t size = is_new ? records.front()->gang_size : known->second.size;
    const std::size_t before = is_new ? 0 : known->second.came;
    more += is_new ? 1 : 0;
    for (const TaskRecord* record : records)
      if (record->gang_size != size)
        return error(Code::invalid_argument, gang_text(*record) + " has " + std::to_string(size) +
                                                 " members by what others say, not " +
                                                 std::to_string(record->gang_size));
    if (before + records.size() > size)
      return error(Code::already_exists, gang_text(*records.back()) + " has " +
                                             std::to_string(size) +
                                             " members, which have all come");
    if (before + records.size() < size || !all_devices_known_) continue;
    // All of it is there: it must be able to start.
    std::vector<const TaskRecord*> members;
    if (!is_new) members = records_of(known->second);
    members.insert(members.end(), records.begin(), records.end());
    TRY(check_fit(tenant, members));
  }
  if (tenant.gangs.size() + more > max_gangs)
    return error(Code::quota, "1024 gangs of this tenant have not ended");
  return {};
}

/// Whether all of a gang could start if nothing else ran.
Result<void> Core::check_fit(const Tenant& tenant, Members members) const {
  std::vector<std::vector<DeviceId>> choices;
  for (const TaskRecord* member : members) choices.push_back(choices_of(tenant, *member));
  std::vector<std::uint32_t> slots, room;
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    slots.push_back(devices_[d].slots);
    room.push_back(gang_slots(*tenant.job, members, d));
  }
  if (fit_gang(choices, room)) return {};
  const std::string what = gang_text(*members.back()) + " can never start: it has " +
                           std::to_string(members.size()) +
                           " members, and the devices that they may run on have ";
  if (fit_gang(choices, slots))
    return error(Code::no_memory, what + "no memories that hold their data at the same time");
  return error(Code::not_supported, what + std::to_string(slots_for(choices)) + " slots for them");
}

std::vector<const Core::TaskRecord*> Core::records_of(const Gang& gang) const {
  std::vector<const TaskRecord*> records;
  for (const TaskRef& ref : gang.members) records.push_back(&tasks_[ref.slot].record);
  return records;
}

/// Those that had come, all of each, before it was known which devices there are.
void Core::end_misfit_gangs() {
  for (const auto& [id, tenant] : tenants_) {
    std::vector<std::pair<TaskRef, Status>> misfits;
    for (const auto& [number, gang] : tenant->gangs) {
      if (gang.came < gang.size || gang.members.size() < gang.size) continue;
      const TaskRef first = gang.members.front();
      const auto fits = check_fit(*tenant, records_of(gang));
      if (!fits && is_pending(tasks_[first.slot])) misfits.emplace_back(first, fits.error());
    }
    for (const auto& [member, why] : misfits)
      if (const Task* task = tasks_.find(member); task != nullptr && is_pending(*task))
        finish(member.slot, {why.code(), why.message(), nullptr, false});
  }
}

/// One more of it has come.
void Core::enter_gang(Tenant& tenant, Slot slot) {
  const Task& task = tasks_[slot];
  Gang& gang = tenant.gangs[task.record.gang];
  gang.size = task.record.gang_size;
  gang.members.push_back({slot, task.number});
  if (++gang.came == gang.size) complete_gangs_.push_back(task.record.gang);
  if (gang.failed)
    finish(slot, {Code::cancelled, "a task of its gang ended without success", nullptr, true});
}

/// Not before the batch is there: the rest of their gangs goes with them, and slots must not change
/// hands in the middle of it.
void Core::end_doomed_members() {
  for (const auto& [ref, tag] : std::exchange(doomed_members_, {}))
    if (const Task* task = tasks_.find(ref); task != nullptr && task->state == State::waiting)
      finish(ref.slot,
             {Code::cancelled, "task " + std::to_string(tag) + ", on which it depends, failed",
              nullptr, true});
}

/// Gangs that can never start, since in the end they wait for themselves.
void Core::end_tangled(Tenant& tenant) {
  std::uint32_t steps = 0;
  for (const std::uint32_t number : std::exchange(complete_gangs_, {})) {
    const auto at = tenant.gangs.find(number);
    if (at == tenant.gangs.end() || at->second.members.empty()) continue;
    if (waits_for_itself(at->second, steps))
      finish(at->second.members.front().slot,
             {Code::invalid_argument,
              "its gang " + std::to_string(number) +
                  " can never start: one of it waits for another of it to be done",
              nullptr, false});
  }
}

/// Walks back over all that it waits for. Who waits for one of another gang waits for what all of
/// that wait for.
bool Core::waits_for_itself(const Gang& gang, std::uint32_t& steps) const {
  std::unordered_set<Slot> own;
  std::vector<Slot> to_look_at;
  for (const TaskRef& member : gang.members) {
    own.insert(member.slot);
    to_look_at.push_back(member.slot);
  }
  std::unordered_set<Slot> seen = own;
  const auto look_at = [&](Slot slot) {
    if (seen.insert(slot).second) to_look_at.push_back(slot);
  };
  while (!to_look_at.empty() && steps < max_gang_steps) {
    ++steps;
    const Task& task = tasks_[to_look_at.back()];
    to_look_at.pop_back();
    for (std::uint32_t i = 0; i < task.edge_count; ++i) {
      const Slot slot = task.edges[i].predecessor;
      if (slot == no_slot) continue;
      if (own.contains(slot)) return true;
      look_at(slot);
      const State state = tasks_[slot].state;
      if (in_gang(tasks_[slot].record) && (state == State::waiting || state == State::gathered))
        for (const TaskRef& mate : gang_of(tasks_[slot]).members) look_at(mate.slot);
    }
  }
  return false;
}

// ---- starting ----------------------------------------------------------------------------------

/// Nothing keeps this one any more.
void Core::ready_in_gang(Slot slot) {
  Task& task = tasks_[slot];
  Gang& gang = gang_of(task);
  task.state = State::gathered;
  // One that was to run again.
  if (gang.failed)
    return finish(slot,
                  {Code::cancelled, "a task of its gang ended without success", nullptr, true});
  ++gang.gathered;
  offer_gang(gang);
}

/// Puts it into its tenant's queue when all that are left of it could start.
void Core::offer_gang(Gang& gang) {
  if (gang.came < gang.size || gang.gathered < gang.members.size()) return;
  const TaskRef first = *std::ranges::min_element(
      gang.members, {}, [this](const TaskRef& ref) { return rank(tasks_[ref.slot]); });
  ++ready_gangs_;
  enqueue(first.slot);
}

/// It is its turn: all of it starts, or it is passed over.
void Core::place_gang(Tenant& tenant, TaskRef leader) {
  const Gang& gang = gang_of(tasks_[leader.slot]);
  if (const auto where = places_for(gang, leader)) return start_gang(tenant, leader, *where);
  const bool suspect = std::ranges::any_of(
      gang.members, [this](const TaskRef& ref) { return tasks_[ref.slot].suspect; });
  // As a single one that has to run alone: others of the context must not pass it.
  tenant.waiting_ahead = suspect ? ReadyQueue::window : tenant.waiting_ahead + 1;
}

void Core::start_gang(Tenant& tenant, TaskRef leader, const std::vector<DeviceId>& where) {
  Gang& gang = gang_of(tasks_[leader.slot]);
  tenant.ready.take(tenant.waiting_ahead, tasks_);
  forget_reservation(leader);
  --ready_gangs_;
  gang.gathered = 0;
  for (std::size_t i = 0; i < gang.members.size(); ++i) {
    const TaskRef member = gang.members[i];
    Task& task = tasks_[member.slot];
    Candidate candidate{where[i], devices_[where[i]].room()};
    candidate.backend = devices_[where[i]].backend;
    candidate.free_ns = now_ns_;
    candidate.width = width_on(task.record, where[i]);
    if (costs_ != nullptr) {
      candidate.cost = &costs_->estimate(task.work, where[i]);
      const Transfer transfer = transfer_to(task, where[i]);
      candidate.transfer_ns = static_cast<std::uint64_t>(transfer.ns);
      candidate.transfer_bytes = transfer.bytes;
    }
    candidates_.assign(1, candidate);
    task.placed_because = Reason::gang;
    log_placement(task, {0, Reason::gang});
    start(tenant, task, member, candidates_.front());
  }
}

// ---- ending ------------------------------------------------------------------------------------

/// One of it has ended, and was in that state `before`. Within `finish`.
void Core::leave_gang(Slot slot, State before, const Outcome& outcome) {
  const Task& task = tasks_[slot];
  Tenant& tenant = *task.tenant;
  const std::uint32_t number = task.record.gang;
  Gang& gang = tenant.gangs.at(number);
  std::erase(gang.members, TaskRef{slot, task.number});
  if (before == State::ready) --ready_gangs_;
  if (outcome.code == Code::ok) {
    // Perhaps the others wait to run again.
    if (gang.gathered > 0) offer_gang(gang);
  } else if (!std::exchange(gang.failed, true)) {
    const std::vector<TaskRef> others = gang.members;
    for (const TaskRef& ref : others) {
      const Task& other = tasks_[ref.slot];
      if (!is_pending(other)) continue;
      // Of a graph that is refused nothing is told.
      const bool silent = outcome.silent && other.held;
      finish_one(ref.slot,
                 {Code::cancelled,
                  "task " + std::to_string(task.record.tag) + " of its gang ended without success",
                  nullptr, true, silent});
    }
  }
  // The last of the others may have taken it away.
  const auto at = tenant.gangs.find(number);
  if (at != tenant.gangs.end() && at->second.members.empty() && at->second.came == at->second.size)
    tenant.gangs.erase(at);
}

bool Core::are_one_gang(std::span<const Slot> slots) const {
  return std::ranges::all_of(slots, [&](Slot slot) {
    const Task& one = tasks_[slot];
    const Task& first = tasks_[slots.front()];
    return in_gang(one.record) && one.tenant == first.tenant &&
           one.record.gang == first.record.gang;
  });
}

}  // namespace aios::scheduler
