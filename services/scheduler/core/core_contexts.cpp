// Contexts come and go; what that means for the tasks in them.
#include <algorithm>
#include <cassert>

#include "services/scheduler/core/core_inline.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

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
  // It was waited for, but nothing will be given to it.
  if (!devices_[device].usable) fail_unplaceable(jobs_.at(job).get());
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
  state.load_ns =
      std::exchange(state.load_time_known, true) ? newer(state.load_ns, took_ns) : took_ns;
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
    if (!tasks_[slot].brief) timelines_[device].started(slot, now_ns_, now_ns_, tasks_[slot].width);
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
  const bool crash_answered = std::exchange(context->crash_answered, false);
  const bool answered =
      end.how == proto::driver::ContextEnd::fault ? crash_answered : limit_answered;
  const std::vector<Slot> in_flight = context->in_flight;
  const bool alone = in_flight.size() == 1 || are_one_gang(in_flight);
  for (const Slot slot : in_flight) {
    // One that was sent ahead may have ended with one before it.
    if (tasks_[slot].state == State::running) judge(slot, answered, end, alone);
  }
  if (!end.has_successor && !devices_[device].usable) fail_unplaceable(jobs_.at(job).get());
  drop_closed_tenants();
  if (const auto at = jobs_.find(job); at != jobs_.end()) drop_job_if_unused(*at->second);
}

/// `answered`: who ended it has been told.
void Core::judge(Slot slot, bool answered, const ContextEnd& end, bool alone) {
  using How = proto::driver::ContextEnd;
  Task& task = tasks_[slot];
  if (task.tenant->closing)
    return finish(slot, {Code::cancelled, "its tenant was closed", nullptr, false});
  if (task.doomed) return end_doomed(slot);
  if (end.how == How::fault && alone && !answered) note_failure(task);
  if (task.begun && !task.idempotent())
    return finish(slot, {Code::indeterminate,
                         "its context ended while it ran (" + cause_text(end) +
                             "); it is not marked idempotent, so it was not run again",
                         nullptr, false});
  if (answered) return retry(slot);
  // Nobody was answered: what was ended is a module that did not load, or the only task there.
  if (end.how == How::limit && (alone || !task.begun)) {
    note_failure(task);
    return finish(slot, {Code::timed_out, cause_text(end), nullptr, false});
  }

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
  Task& task = tasks_[slot];
  if (task.doomed) return end_doomed(slot);
  leave_context(slot);
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
  context->limit_answered = context->crash_answered = false;
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
  fail_unplaceable(jobs_.at(job_id).get(), status);
  drop_closed_tenants();
  if (const auto at = jobs_.find(job_id); at != jobs_.end()) drop_job_if_unused(*at->second);
}

/// No device that it suits has a context for its job that takes tasks, or will. One that is being
/// opened or replaced on a device that is gone is waited for: perhaps the device is back by then.
bool Core::unplaceable(const Tenant& tenant, const Task& task) const {
  bool any = false;
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (!suits(tenant, task.record, d)) continue;
    any = true;
    const Context& context = tenant.job->contexts[d];
    if (devices_[d].usable
            ? context.state != ContextState::none || !context.refused
            : context.state == ContextState::opening || context.state == ContextState::lost)
      return false;
  }
  return any || all_devices_known_;
}

Status Core::no_context_left() {
  return Status(Code::service_down,
                "its job has no context on the devices that it can run on, or they are gone");
}

/// What is not given to a context and never will be ends, with what a submit would now say of it,
/// or with `refusal`; of one job or, where that is null, of all. Called whenever there is less to
/// run on: a task for which there was something when it came, or was taken back, need not be looked
/// at again.
void Core::fail_unplaceable(const Job* job, const Status& refusal) {
  for (const auto& [id, tenant] : tenants_) {
    if (job != nullptr && tenant->job != job) continue;
    const UnfinishedIndex::Refs refs = tenant->unfinished.refs();
    for (const TaskRef& ref : refs) {
      const Task* task = tasks_.find(ref);
      if (task == nullptr || !is_pending(*task) || is_join(task->record) ||
          !unplaceable(*tenant, *task))
        continue;
      const Result<void> checked = check_device(*tenant, task->record);
      const Status why = checked ? refusal : checked.error();
      finish(ref.slot, {why.code(), why.message(), nullptr, false});
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
