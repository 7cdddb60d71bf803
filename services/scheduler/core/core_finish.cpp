// The end of a task, and what follows for those that depend on it.
#include <algorithm>
#include <cassert>

#include "abi/include/aios/codelet.h"
#include "services/scheduler/core/core_inline.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {

void Core::task_begun(TaskRef ref, std::uint64_t batch) {
  Task* task = tasks_.find(ref);
  if (task == nullptr || task->state != State::running) return;
  task->begun = true;
  task->batch = batch;
  for (std::uint32_t i = 0; i < task->record.buffer_count; ++i)
    if (mode_writes(buffer_mode(task->record.buffers[i])))
      ++task->tenant->job->buffers[buffer_id(task->record.buffers[i])].content;
}

void Core::task_answered(TaskRef ref, const Result<RunReply>& answer) {
  const Task* task = tasks_.find(ref);
  if (task == nullptr || task->state != State::running) return;
  tasks_.prefetch_successor(ref.slot);
  if (task->doomed) {
    end_doomed(ref.slot);
  } else if (answer) {
    if (costs_ != nullptr) learn_from(*task, *answer);
    if (answer->end_ns > answer->start_ns)
      task->tenant->codelets[task->record.codelet].brevity.learn(
          task->device, static_cast<double>(busy_ns(*task, *answer)));
    finish(ref.slot, {Code::ok, {}, &*answer, false});
  } else {
    note_failure(*task);
    const Code code = answer.error().code();
    Context& context = task->tenant->job->contexts[task->device];
    context.limit_answered = context.limit_answered || code == Code::timed_out;
    // What a processor's codelet throws is answered so too, and costs nobody the context.
    const bool ends_context = devices_[task->device].backend != proto::driver::backend::cpu;
    context.crash_answered = context.crash_answered || (code == Code::crashed && ends_context);
    finish(ref.slot, {code, answer.error().message(), nullptr, false});
  }
  drop_closed_tenants();
}

/// What threads were busy with it, all together: in a batch, on one thread, it would take that.
std::uint64_t Core::busy_ns(const Task& task, const RunReply& run) {
  const std::uint64_t span_ns = run.end_ns - std::min(run.start_ns, run.end_ns);
  if (run.busy_ns == 0 || span_ns == 0) return span_ns;
  return run.busy_ns / task.width < span_ns ? run.busy_ns : span_ns * task.width;
}

/// With `width` threads for itself; between its first block and its last one others have their
/// share of them.
std::uint64_t Core::alone_ns(const Task& task, const RunReply& run, std::uint32_t width) {
  const std::uint64_t all_ns = busy_ns(task, run);
  if (all_ns == 0 || width <= 1) return all_ns;
  return std::max<std::uint64_t>(all_ns / width, 1);
}

void Core::learn_from(const Task& task, const RunReply& run) {
  // The numbers are a context's word; they teach about codelets of its own user alone.
  if (run.end_ns <= run.start_ns) return;
  // Brief ones come by hundreds of thousands a second.
  const bool is_known =
      task.brief && costs_->estimate(task.work, task.device).samples >= brief_samples_to_know;
  if (is_known && ++known_brief_ % known_brief_teaches_one_in != 0) return;
  // One that is brief had one thread, and is learned with those before it was known to be.
  const std::uint64_t takes_ns = alone_ns(task, run, width_on(task.record, task.device));
  costs_->learn({task.work, task.device, static_cast<double>(takes_ns),
                 static_cast<double>(peak_memory(task, run))});
}

void Core::finish(Slot slot, const Outcome& outcome) {
  wakes_.clear();
  finish_one(slot, outcome);
  for (std::size_t i = 0; i < wakes_.size(); ++i) {
    const Wake wake = wakes_[i];
    Task& task = tasks_[wake.successor];
    assert(task.remaining > 0);
    --task.remaining;
    task.ready_ns = wake.at_ns;
    task.after_number = wake.predecessor_number;
    if (task.state == State::finished) {
      if (task.remaining == 0) release(wake.successor);
    } else if (wake.failed && task.state == State::running) {
      // It was given to its context ahead of time, which may not have found out yet, and perhaps
      // runs it: until that has answered its buffers are not the client's again.
      if (!std::exchange(task.doomed, true)) task.doomed_by = wake.predecessor_tag;
    } else if (wake.failed) {
      finish_one(wake.successor, was_in_vain(wake.predecessor_tag));
    } else if (task.remaining > 0 || task.state != State::waiting) {
      continue;  // it was given to its context ahead of time, or will be
    } else if (is_join(task.record)) {
      finish_one(wake.successor, {Code::ok, {}, nullptr, false});
    } else {
      make_ready(wake.successor);
    }
  }
}

Core::Outcome Core::was_in_vain(std::uint64_t failed_tag) {
  return {Code::cancelled, "task " + std::to_string(failed_tag) + ", on which it depends, failed",
          nullptr, true};
}

void Core::end_doomed(Slot slot) {
  finish(slot, was_in_vain(tasks_[slot].doomed_by));
}

void Core::finish_one(Slot slot, const Outcome& outcome) {
  Task& task = tasks_[slot];
  Tenant& tenant = *task.tenant;
  const bool failed = outcome.code != Code::ok;
  if (!outcome.silent) account(task, outcome);
  log_end(task, outcome);
  leave_graph(task, outcome);
  const std::uint64_t ended_ns = outcome.run != nullptr ? outcome.run->end_ns : now_ns_;
  const State before = std::exchange(task.state, State::finished);
  tenant.unfinished.finished(task.number, tasks_);
  if (before == State::running) leave_context(slot);
  if (before == State::ready) tenant.ready.left(tasks_);
  for (std::uint32_t i = 0; i < task.record.buffer_count; ++i)
    --tenant.job->buffers[buffer_id(task.record.buffers[i])].uses;
  if (!is_join(task.record)) {
    --tenant.codelets[task.record.codelet].unfinished;
    --tenant.job->unfinished;
  }
  tenant.tags.finish(static_cast<std::uint32_t>(task.record.tag), failed);
  ++tenant.job->user->finished_tags;
  if (!tenant.closing && !outcome.silent) complete(tenant, task, outcome);

  successors_.clear();
  tasks_.take_successors(slot, successors_);
  for (const Slot s : successors_)
    wakes_.push_back({s, task.record.tag, task.number, ended_ns, failed});
  if (in_gang(task.record)) leave_gang(slot, before, outcome);
  if (task.remaining == 0) release(slot);
}

void Core::complete(Tenant& tenant, const Task& task, const Outcome& outcome) {
  Completion& c = tenant.completions.emplace_back();
  c.tag = task.record.tag;
  c.status = static_cast<std::uint32_t>(outcome.code);
  c.attempts = task.attempts;
  if (outcome.run != nullptr) {
    c.start_ns = outcome.run->start_ns;
    c.end_ns = outcome.run->end_ns;
    c.peak_memory_bytes = outcome.run->peak_memory_bytes;
    std::copy(std::begin(outcome.run->result), std::end(outcome.run->result), c.result);
  }
  ++tenant.pending;
  ++tenant.job->user->pending;
  if (!std::exchange(tenant.announced, true))
    actions_.push_back({Action::Kind::completions, {}, tenant.id, tenant.job->id});

  // A failure's consequences must not push out its reason.
  const bool full = tenant.failures.size() == max_remembered_failures;
  if (outcome.code == Code::ok || (outcome.cascade && full)) return;
  if (full) tenant.failures.pop_front();
  tenant.failures.push_back({task.record.tag, outcome.text});
}

void Core::account(const Task& task, const Outcome& outcome) {
  Job& job = *task.tenant->job;
  if (!is_join(task.record)) ++(outcome.code == Code::ok ? job.tasks_done : job.tasks_failed);
  FinishedRing::Entry& entry = finished_.add();
  static_cast<FinishedRing::Facts&>(entry) = {
      .number = task.number,
      .tag = task.record.tag,
      .job_id = job.id,
      .submitted_ns = task.submitted_ns,
      .start_ns = outcome.run != nullptr ? outcome.run->start_ns : 0,
      .end_ns = outcome.run != nullptr ? outcome.run->end_ns : 0,
      .transfer_ns = outcome.run != nullptr ? outcome.run->transfer_ns : 0,
      .predicted_transfer_ns = static_cast<std::uint64_t>(task.transfer.ns),
      .user = job.user->uid,
      .status = static_cast<std::uint32_t>(outcome.code),
      .attempts = task.attempts,
      .priority = task.record.priority,
      .device = task.device};
  entry.names = names_of(task);
  if (outcome.text.empty())
    entry.why.clear();
  else
    entry.why.assign(outcome.text, 0, max_failure_bytes);

  if (task.state != State::running) return;
  DeviceState& device = devices_[task.device];
  ++(outcome.code == Code::ok ? device.tasks_done : device.tasks_failed);
  // The times are a context's word.
  if (outcome.run == nullptr || outcome.run->end_ns <= outcome.run->start_ns) return;
  const std::uint64_t took_ns = busy_ns(task, *outcome.run);
  device.busy_ns += took_ns;
  job.busy_ns += took_ns;
}

void Core::leave_context(Slot slot) {
  Task& task = tasks_[slot];
  devices_[task.device].scratch_bytes -= std::exchange(task.scratch_bytes, 0);
  std::vector<Slot>& in_flight = task.tenant->job->contexts[task.device].in_flight;
  assert(in_flight[task.in_flight_at] == slot);
  in_flight[task.in_flight_at] = in_flight.back();
  tasks_[in_flight.back()].in_flight_at = task.in_flight_at;
  in_flight.pop_back();
  free_slot(slot);
}

namespace {
template <class Call>
void for_read(const Task& task, Call call) {
  for (std::uint32_t i = 0; i < task.record.buffer_count; ++i)
    if ((buffer_mode(task.record.buffers[i]) & AIOS_MODE_READ) != 0)
      call(task.tenant->job->buffers[buffer_id(task.record.buffers[i])]);
}
}  // namespace

void Core::take_slot(Slot slot) {
  Task& task = tasks_[slot];
  if (std::exchange(task.holds_slot, true)) return;
  const Tenant& tenant = *task.tenant;
  DeviceState& device = devices_[task.device];
  task.brief = is_brief(tenant, task, task.device);
  Context& context = tenant.job->contexts[task.device];
  ++tenant.job->user->running;
  for_read(task, [](Buffer& buffer) { ++buffer.readers; });
  task.width = task.brief ? 1 : width_on(task.record, task.device);
  if (!task.brief) {
    ++device.running;
    ++context.running;
    device.wider += task.width - 1;
    context.wider += task.width - 1;
    return charge(task);
  }
  charge(task);
  const Brevity& brevity = tenant.codelets[task.record.codelet].brevity;
  task.charge_ns = std::max(brevity.expected_ns(task.device), least_charge_ns);
  ++device.ahead;
  device.ahead_ns += task.charge_ns;
}

void Core::free_slot(Slot slot) {
  Task& task = tasks_[slot];
  if (!std::exchange(task.holds_slot, false)) return;
  DeviceState& device = devices_[task.device];
  --task.tenant->job->user->running;
  for_read(task, [](Buffer& buffer) { --buffer.readers; });
  if (!std::exchange(task.brief, false)) {
    charges_.push_back({task.tenant->id, task.record.codelet, task.slot_since_ns, task.charged_ns,
                        task.slot_share, device.share_of(task.width)});
    Context& context = task.tenant->job->contexts[task.device];
    --device.running;
    --context.running;
    device.wider -= task.width - 1;
    context.wider -= task.width - 1;
    timelines_[task.device].left(slot);
    return;
  }
  --device.ahead;
  device.ahead_ns -= task.charge_ns;
}

void Core::release(Slot slot) {
  Tenant& tenant = *tasks_[slot].tenant;
  --tenant.pending;
  --tenant.job->user->pending;
  tasks_.release(slot);
}

}  // namespace aios::scheduler
