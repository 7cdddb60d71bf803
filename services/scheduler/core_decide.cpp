// Which task starts next, and where.
#include <algorithm>
#include <cassert>

#include "services/scheduler/core.hpp"

namespace aios::scheduler {
namespace {

/// Whose turn comes first. Looks at `top` only between tenants of one user.
bool sooner(Tenant& a, Tenant& b, const TaskTable& tasks) {
  const User& ua = *a.job->user;
  const User& ub = *b.job->user;
  if (&ua != &ub) return ua.turn != ub.turn ? ua.turn < ub.turn : ua.uid < ub.uid;
  const std::int64_t urgency_a = a.ready.top(tasks).rank.urgency;
  const std::int64_t urgency_b = b.ready.top(tasks).rank.urgency;
  if (urgency_a != urgency_b) return urgency_a < urgency_b;
  return a.turn != b.turn ? a.turn < b.turn : a.id < b.id;
}

}  // namespace

bool Core::suits(const Tenant& tenant, const TaskRecord& record, DeviceId device) const {
  return (record.device == 0 || record.device == device + 1) &&
         (tenant.codelets[record.codelet].backends & devices_[device].backend) != 0;
}

bool Core::can_take(const Tenant& tenant, const Task& task, DeviceId device) const {
  if (!suits(tenant, task.record, device)) return false;
  const DeviceState& state = devices_[device];
  const Context& context = tenant.job->contexts[device];
  if (!state.usable || context.state != ContextState::ready) return false;
  if (state.running >= state.slots && tenant.job->user->running > 0) return false;
  if (context.in_flight.empty()) return true;
  return !task.suspect && !tasks_[context.in_flight.front()].suspect;
}

bool Core::startable(Tenant& tenant) const {
  if (tenant.ready.empty()) return false;
  const Task& task = tasks_[tenant.ready.top(tasks_).task.slot];
  for (DeviceId d = 0; d < devices_.size(); ++d)
    if (can_take(tenant, task, d)) return true;
  return false;
}

void Core::decide() {
  std::erase_if(active_, [](Tenant* t) {
    t->active = !t->ready.empty();
    return !t->active;
  });
  round_.clear();
  for (Tenant* tenant : active_)
    if (startable(*tenant)) round_.push_back(tenant);
  while (!round_.empty()) {
    Tenant* next = *std::min_element(round_.begin(), round_.end(),
                                     [&](Tenant* a, Tenant* b) { return sooner(*a, *b, tasks_); });
    start_next(*next);
    std::erase_if(round_, [&](Tenant* t) { return !startable(*t); });
  }
  for (Tenant* tenant : active_)
    if (!tenant->ready.empty()) want_context(*tenant);
}

void Core::start_next(Tenant& tenant) {
  const TaskRef ref = tenant.ready.top(tasks_).task;
  Task& task = tasks_[ref.slot];
  candidates_.clear();
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (!can_take(tenant, task, d)) continue;
    const DeviceState& state = devices_[d];
    candidates_.push_back({d, state.slots > state.running ? state.slots - state.running : 0});
  }
  const DeviceId device = placement_->place(candidates_);
  tenant.ready.pop();
  task.state = State::running;
  task.device = device;
  task.holds_slot = true;
  ++task.attempts;
  tenant.job->contexts[device].in_flight.push_back(ref.slot);
  ++devices_[device].running;
  User& user = *tenant.job->user;
  ++user.running;
  user.turn = tenant.turn = ++last_turn_;
  actions_.push_back({Action::Kind::start, ref, tenant.id, tenant.job->id, device});
}

void Core::want_context(Tenant& tenant) {
  Job& job = *tenant.job;
  const Task& task = tasks_[tenant.ready.top(tasks_).task.slot];
  bool has_one = false;
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    const Context& context = job.contexts[d];
    if (!suits(tenant, task.record, d)) continue;
    if (context.state == ContextState::opening || context.state == ContextState::lost) return;
    has_one = has_one || context.state == ContextState::ready;
  }
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    Context& context = job.contexts[d];
    if (!suits(tenant, task.record, d)) continue;
    if (!devices_[d].usable || context.state != ContextState::none || context.refused) continue;
    // A further device is of use only when it has room.
    if (has_one && devices_[d].running >= devices_[d].slots) continue;
    context.state = ContextState::opening;
    actions_.push_back({Action::Kind::open_context, {}, tenant.id, job.id, d});
    return;
  }
}

}  // namespace aios::scheduler
