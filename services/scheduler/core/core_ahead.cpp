// Brief tasks that are given to a context while those on which they depend are still there. The
// context begins each when these have ended (abi/proto/device.hpp, RunBatch), so that a graph of
// brief tasks does not wait for a round trip at every step.
//
// Such a task is `ready` with some of its dependencies unfinished. That they are all on their way
// in one context is looked at again when it is started: if one was taken back meanwhile, it waits.
//
// When a context ends, all that it was given runs again. Of B = f(A) and A = g(B) both may have run
// by then, and f would read what g has made: what overwrites the input of a task that is there
// does not go ahead.
#include <algorithm>
#include <cassert>

#include "services/scheduler/core/core_inline.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {

/// On which device all that it still waits for has been given to the context of its job; no_device
/// when that is not so.
DeviceId Core::device_ahead(const Task& task) const {
  DeviceId device = no_device;
  for (std::uint32_t i = 0; i < task.edge_count; ++i) {
    if (task.edges[i].predecessor == no_slot) continue;
    const Task& before = tasks_[task.edges[i].predecessor];
    if (before.state != State::running || !before.brief) return no_device;
    if (device != no_device && device != before.device) return no_device;
    device = before.device;
  }
  return device;
}

bool Core::may_go_ahead(const Tenant& tenant, const Task& task, DeviceId device) {
  if (task.state != State::waiting || task.held || task.unbegun > 0 || is_join(task.record) ||
      !suits(tenant, task.record, device) || !is_brief(tenant, task, device) ||
      device_ahead(task) != device || overwrites_input_ahead(task))
    return false;
  if (!looks_ahead_) return true;
  // Where it is done sooner than here it is worth to wait.
  const double here_ns = costs_->estimate(task.work, device).time.mean;
  for (DeviceId d = 0; d < devices_.size(); ++d)
    if (d != device && devices_[d].usable && suits(tenant, task.record, d) &&
        costs_->estimate(task.work, d).time.mean < here_ns &&
        !is_shunned(tenant.codelets[task.record.codelet], d))
      return false;
  return true;
}

bool Core::overwrites_input_ahead(const Task& task) {
  for (std::uint32_t i = 0; i < task.record.buffer_count; ++i)
    if (mode_writes(buffer_mode(task.record.buffers[i])) &&
        task.tenant->job->buffers[buffer_id(task.record.buffers[i])].readers > 0)
      return true;
  return false;
}

/// The task has been given to a context: those that depend on it may perhaps follow it there.
void Core::offer_successors(Slot slot) {
  const Task& task = tasks_[slot];
  if (!task.brief || !devices_[task.device].keeps_order) return;
  tasks_.for_successors(slot, [&](Slot successor) {
    if (may_go_ahead(*task.tenant, tasks_[successor], task.device))
      followers_.push_back({successor, tasks_[successor].number});
  });
  // In the middle of a row of tasks that are looked at, none may come between them.
  if (task.tenant->waiting_ahead == 0) take_followers();
}

void Core::take_followers() {
  for (const TaskRef& ref : followers_) {
    Task* task = tasks_.find(ref);
    if (task == nullptr || task->state != State::waiting || device_ahead(*task) == no_device)
      continue;
    task->ready_ns = now_ns_;
    make_ready(ref.slot);
  }
  followers_.clear();
}

/// One before it may have been taken back meanwhile, its codelet have taken longer than what is
/// brief (alone it would not be kept back by its context), or one have come that reads what it
/// overwrites.
bool Core::is_still_ahead(const Tenant& tenant, const Task& task) const {
  const DeviceId device = device_ahead(task);
  return device != no_device && is_brief(tenant, task, device) && !overwrites_input_ahead(task);
}

/// It was ready with dependencies unfinished, and may not start so any more: it waits for them.
void Core::wait_again(Tenant& tenant, Task& task) {
  tenant.ready.take(tenant.waiting_ahead, tasks_);
  task.state = State::waiting;
}

bool Core::batches_before(const Task& task, std::vector<std::uint64_t>& out) const {
  out.clear();
  for (std::uint32_t i = 0; i < task.edge_count; ++i) {
    if (task.edges[i].predecessor == no_slot) continue;
    const Task& before = tasks_[task.edges[i].predecessor];
    if (before.state != State::running || before.batch == 0) return false;
    if (std::ranges::find(out, before.batch) == out.end()) out.push_back(before.batch);
  }
  return out.size() <= proto::context::RunBatch::max_after;
}

void Core::task_not_begun(TaskRef ref) {
  Task* task = tasks_.find(ref);
  if (task == nullptr || task->state != State::running) return;
  // Each time something else has failed, unless the context lies.
  if (++task->unbegun > max_unbegun) {
    finish(ref.slot,
           {Code::internal, "its context took it 64 times and did not begin it", nullptr, false});
  } else {
    --task->attempts;
    const DeviceId device = task->device;
    const Job* const job = task->tenant->job;
    retry(ref.slot);
    if (!devices_[device].usable) fail_unplaceable(job);
  }
  drop_closed_tenants();
}

}  // namespace aios::scheduler
