// Contexts come and go; what that means for the tasks in them.
#include <algorithm>
#include <cassert>

#include "services/scheduler/core.hpp"

namespace aios::scheduler {
namespace {

std::string cause_text(const ContextEnd& end) {
  return end.cause.empty() ? "for a reason its driver does not know" : end.cause;
}

std::uint64_t newer(std::uint64_t before, std::uint64_t now) {
  return before - before / 4 + now / 4;
}

}  // namespace

Context* Core::context_of(JobId job, DeviceId device) {
  const auto at = jobs_.find(job);
  if (at == jobs_.end() || device >= at->second->contexts.size()) return nullptr;
  return &at->second->contexts[device];
}

void Core::context_ready(JobId job, DeviceId device, std::uint64_t at_ns) {
  Context* context = context_of(job, device);
  if (context == nullptr || context->state == ContextState::closing) return;
  assert(context->in_flight.empty());
  context->state = ContextState::ready;
  context->ready_ns = at_ns;
}

void Core::context_opened_in(DeviceId device, std::uint64_t took_ns) {
  DeviceState& state = devices_[device];
  state.open_ns =
      std::exchange(state.open_time_known, true) ? newer(state.open_ns, took_ns) : took_ns;
}

void Core::module_loaded(TenantId id, std::uint32_t codelet, DeviceId device,
                         std::uint64_t since_ns, std::uint64_t until_ns) {
  const std::uint64_t took_ns = until_ns - std::min(since_ns, until_ns);
  DeviceState& state = devices_[device];
  state.load_ns = state.load_ns == 0 ? took_ns : newer(state.load_ns, took_ns);
  const Result<Tenant*> tenant = open(id);
  if (!tenant) return;
  (*tenant)->codelets[codelet].loaded_on |= std::uint64_t{1} << device;
  (*tenant)->codelets[codelet].loadings[device] = {since_ns, until_ns};
  for (const Slot slot : (*tenant)->job->contexts[device].in_flight) {
    const Task& task = tasks_[slot];
    if (task.tenant != *tenant || task.record.codelet != codelet || task.begun) continue;
    if (PlacementLog::Entry* entry = log_.find(task.logged))
      entry->loading_ns = until_ns - std::min(std::max(since_ns, task.ready_ns), until_ns);
  }
}

/// The context that had them is gone.
void Core::forget_modules(JobId job, DeviceId device) {
  for (auto& [id, tenant] : tenants_)
    if (tenant->job->id == job)
      for (CodeletType& codelet : tenant->codelets)
        codelet.loaded_on &= ~(std::uint64_t{1} << device);
}

void Core::context_stalled(JobId job, DeviceId device) {
  Context* context = context_of(job, device);
  if (context == nullptr || context->state != ContextState::ready) return;
  context->state = ContextState::stalled;
  for (const Slot slot : context->in_flight) free_slot(slot);
}

void Core::context_resumed(JobId job, DeviceId device) {
  Context* context = context_of(job, device);
  if (context == nullptr || context->state != ContextState::stalled) return;
  context->state = ContextState::ready;
  for (const Slot slot : context->in_flight) {
    take_slot(slot);
    // When it will be done is no longer known: it is late.
    if (!tasks_[slot].brief) timelines_[device].started(slot, now_ns_, now_ns_);
  }
}

void Core::context_lost(JobId job, DeviceId device) {
  Context* context = context_of(job, device);
  if (context == nullptr ||
      (context->state != ContextState::ready && context->state != ContextState::stalled))
    return;
  context->state = ContextState::lost;
  forget_modules(job, device);
  for (const Slot slot : context->in_flight) free_slot(slot);
}

void Core::context_ended(JobId job, DeviceId device, const ContextEnd& end) {
  Context* context = context_of(job, device);
  if (context == nullptr) return;
  context->state = end.has_successor ? ContextState::opening : ContextState::none;
  context->asked_ns = now_ns_;
  forget_modules(job, device);
  forget_copies(*jobs_.at(job), device);
  const bool limit_answered = std::exchange(context->limit_answered, false);
  const std::vector<Slot> in_flight = context->in_flight;
  const bool alone = in_flight.size() == 1 || are_one_gang(in_flight);
  for (const Slot slot : in_flight) {
    // One that was sent ahead may have ended with one before it.
    if (tasks_[slot].state == State::running) judge(slot, limit_answered, end, alone);
  }
  drop_closed_tenants();
  if (const auto at = jobs_.find(job); at != jobs_.end()) drop_job_if_unused(*at->second);
}

void Core::judge(Slot slot, bool limit_answered, const ContextEnd& end, bool alone) {
  using How = proto::driver::ContextEnd;
  Task& task = tasks_[slot];
  if (task.tenant->closing)
    return finish(slot, {Code::cancelled, "its tenant was closed", nullptr, false});
  if (task.begun && !task.idempotent())
    return finish(slot, {Code::indeterminate,
                         "its context ended while it ran (" + cause_text(end) +
                             "); it is not marked idempotent, so it was not run again",
                         nullptr, false});
  if (end.how == How::limit && limit_answered) return retry(slot);
  // Nobody was answered: what was ended is a module that did not load, or the only task there.
  if (end.how == How::limit && (alone || !task.begun))
    return finish(slot, {Code::timed_out, cause_text(end), nullptr, false});

  ++task.context_ends;
  if (end.how == How::fault && alone) ++task.lone_faults;
  if (task.lone_faults >= max_lone_faults)
    return finish(
        slot, {Code::crashed, "it crashed its context twice while it ran alone: " + cause_text(end),
               nullptr, false});
  if (task.context_ends >= max_context_ends_per_task)
    return finish(
        slot, {Code::crashed, "its context ended 8 times while it ran, at last: " + cause_text(end),
               nullptr, false});
  task.suspect = true;
  retry(slot);
}

void Core::retry(Slot slot) {
  leave_context(slot);
  Task& task = tasks_[slot];
  task.begun = false;
  task.batch = 0;
  if (task.remaining > 0)
    task.state = State::waiting;
  else
    make_ready(slot);
}

void Core::context_refused(JobId job_id, DeviceId device, const Status& status) {
  Context* context = context_of(job_id, device);
  if (context == nullptr) return;
  context->state = ContextState::none;
  context->refused = true;
  forget_copies(*jobs_.at(job_id), device);
  context->limit_answered = false;
  const std::vector<Slot> in_flight = context->in_flight;
  for (const Slot slot : in_flight) {
    if (tasks_[slot].state != State::running) continue;
    if (tasks_[slot].tenant->closing)
      finish(slot, {Code::cancelled, "its tenant was closed", nullptr, false});
    else if (tasks_[slot].begun && !tasks_[slot].idempotent())
      finish(slot, {Code::indeterminate, status.message(), nullptr, false});
    else
      retry(slot);
  }
  Job& job = *jobs_.at(job_id);
  fail_unplaceable(job, status);
  drop_closed_tenants();
  if (const auto at = jobs_.find(job_id); at != jobs_.end()) drop_job_if_unused(*at->second);
}

/// No device that it suits has a context for its job, or will.
bool Core::unplaceable(const Tenant& tenant, const Task& task) const {
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    const Context& context = tenant.job->contexts[d];
    if (suits(tenant, task.record, d) &&
        (context.state != ContextState::none || (devices_[d].usable && !context.refused)))
      return false;
  }
  return true;
}

void Core::fail_unplaceable(const Job& job, const Status& status) {
  for (const auto& [id, tenant] : tenants_) {
    if (tenant->job != &job) continue;
    const std::vector<TaskRef> refs = tenant->unfinished.refs();
    for (const TaskRef& ref : refs) {
      const Task* task = tasks_.find(ref);
      // Those that wait fail by what they wait for.
      if (task != nullptr && task->state == State::ready && unplaceable(*tenant, *task))
        finish(ref.slot, {status.code(), status.message(), nullptr, false});
    }
  }
}

void Core::close_contexts(Job& job) {
  for (DeviceId d = 0; d < job.contexts.size(); ++d) {
    Context& context = job.contexts[d];
    if (context.state == ContextState::none || context.state == ContextState::closing) continue;
    context.state = ContextState::closing;
    for (const Slot slot : context.in_flight) free_slot(slot);
    actions_.push_back({Action::Kind::close_context, {}, 0, job.id, d});
  }
}

}  // namespace aios::scheduler
