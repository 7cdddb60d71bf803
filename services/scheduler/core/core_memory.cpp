// The room in the memories of devices that have their own: what lies there, what tasks will need,
// and who makes room for whom (kernel/decisions/0420).
//
// A context keeps the copies of its job's buffers until it is told to let go of them, for the next
// task may need them. Those that no task there uses are idle: when room is needed the one that was
// used longest ago leaves, those first of which there is another copy. Of its own job that happens
// with the start of the task, in the same link, and is done before it begins; of another job the
// task waits until its context has answered. Until then it is counted, in either case. What running
// tasks use stays: for that a task waits until they end. What is free meanwhile is kept for the
// first one that waits, so that small ones do not pass it for ever.
//
// Nothing of this costs anything while all fits: then a sum is compared.
#include <algorithm>
#include <tuple>

#include "services/scheduler/core/core.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {
namespace {

/// No predicted memory is more: sums stay far from overflow.
constexpr double most_bytes = 1e18;

/// Calls `visit` with the number of each buffer of the task, once.
template <class Visit>
void for_buffers(const proto::scheduler::TaskRecord& record, Visit visit) {
  for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
    const std::uint32_t id = buffer_id(record.buffers[i]);
    bool again = false;
    for (std::uint32_t k = 0; k < i; ++k) again = again || buffer_id(record.buffers[k]) == id;
    if (!again) visit(id);
  }
}

}  // namespace

// ---- what a task needs --------------------------------------------------------------------------

std::uint64_t Core::data_bytes(const Job& job, const TaskRecord& record) const {
  std::uint64_t sum = 0;
  for_buffers(record, [&](std::uint32_t id) { sum += job.buffers[id].bytes; });
  return sum;
}

MemoryNeed Core::memory_need(const Task& task, DeviceId device) {
  const Job& job = *task.tenant->job;
  const Copies here = only_in(memories_.of(device));
  MemoryNeed need;
  for_buffers(task.record, [&](std::uint32_t id) {
    const Buffer& buffer = job.buffers[id];
    need.data += buffer.bytes;
    if ((buffer.resident & here) == 0) need.fresh += buffer.bytes;
  });
  if (costs_ == nullptr) return need;
  // What was never seen there is no reason not to try.
  const Estimate& cost = costs_->estimate(task.work, device);
  const auto peak = static_cast<std::uint64_t>(std::clamp(cost.memory.p95, 0.0, most_bytes));
  if (cost.samples > 0 && peak > need.data) need.scratch = peak - need.data;
  return need;
}

/// What is learned of a task's memory. A context tells the peak of all that it ever had at once; on
/// a device with its own memory what it took beside its copies is a task's.
std::uint64_t Core::peak_memory(const Task& task, const RunReply& run) const {
  if (!holds_copies(task.device)) return run.peak_memory_bytes;
  const Job& job = *task.tenant->job;
  const std::uint64_t copies = job.contexts[task.device].most_resident_bytes;
  return data_bytes(job, task.record) +
         (run.peak_memory_bytes - std::min(run.peak_memory_bytes, copies));
}

// ---- whether there is room ----------------------------------------------------------------------

/// In this decision, for another one that waits.
std::uint64_t Core::kept_from(const Task& task, DeviceId device) const {
  const DeviceState& state = devices_[device];
  return state.memory_waiter == task.number ? 0 : state.kept_bytes;
}

/// Marks the task's buffers, and returns the bytes of those that had no mark.
std::uint64_t Core::mark_used(Job& job, const TaskRecord& record) {
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
    Buffer& buffer = job.buffers[buffer_id(record.buffers[i])];
    if (std::exchange(buffer.mark, last_mark_) != last_mark_) sum += buffer.bytes;
  }
  return sum;
}

/// Bytes of the buffers that tasks there use, which get a new mark. Of contexts that go on: when
/// tasks of the others end nobody knows.
std::uint64_t Core::used_by_tasks(DeviceId device) {
  ++last_mark_;
  std::uint64_t sum = 0;
  for (const auto& [id, job] : jobs_)
    if (job->contexts[device].state != ContextState::stalled)
      for (const Slot slot : job->contexts[device].in_flight)
        sum += mark_used(*job, tasks_[slot].record);
  return sum;
}

/// Of copies without a mark. Fills `idle_` with those that can be asked to leave. `own`: whose task
/// wants room.
UnusedMemory Core::find_unused(const Job& own, DeviceId device) {
  const Copies here = only_in(memories_.of(device));
  UnusedMemory unused;
  idle_.clear();
  for (const auto& [id, job] : jobs_) {
    const Context& context = job->contexts[device];
    const bool stalled = context.state == ContextState::stalled;
    std::uint64_t& not_idle = stalled ? unused.held : unused.leaving;
    for (const Context::Going& one : context.going) not_idle += one.bytes;
    if (stalled)
      for (const Slot slot : context.in_flight) unused.scratch += tasks_[slot].scratch_bytes;
    if (context.resident_bytes == 0) continue;
    for (std::uint32_t i = 0; i < job->buffers.size(); ++i) {
      const Buffer& buffer = job->buffers[i];
      if ((buffer.resident & here) == 0 || buffer.mark == last_mark_) continue;
      if (context.state != ContextState::ready)
        not_idle += buffer.bytes;
      else if ((buffer.leaving & here) != 0)
        (job.get() == &own ? unused.own : unused.leaving) += buffer.bytes;
      else
        idle_.push_back({job.get(), i, buffer.copies == here, buffer.last_use});
    }
  }
  unused.held += unused.scratch;
  return unused;
}

/// Leaves in `idle_` copies of so many bytes, if there are as many, in the order in which they have
/// to leave.
void Core::keep_first_idle(std::uint64_t bytes) {
  std::ranges::sort(idle_, {}, [](const IdleCopy& c) {
    return std::tuple(c.only_one, c.last_use, c.job->id, c.buffer);
  });
  std::uint64_t found = 0;
  std::size_t count = 0;
  while (count < idle_.size() && found < bytes) {
    const IdleCopy& copy = idle_[count++];
    found += copy.job->buffers[copy.buffer].bytes;
  }
  idle_.resize(count);
}

/// For tasks of one job that start together. Leaves in `idle_` what has to leave before they can.
MemoryRoom Core::memory_room(Tasks tasks, DeviceId device, const MemoryNeed& need) {
  const DeviceState& state = devices_[device];
  Job& own = *tasks.front()->tenant->job;
  const std::uint64_t kept = kept_from(*tasks.front(), device);
  const std::uint64_t taken = state.resident_bytes + state.scratch_bytes;
  const std::uint64_t wanted = need.fresh + need.scratch + kept;
  idle_.clear();
  held_bytes_ = own_leaving_bytes_ = 0;
  if (taken + wanted <= state.memory_bytes) return MemoryRoom::now;

  const std::uint64_t by_tasks = used_by_tasks(device);
  std::uint64_t with_it = by_tasks;
  for (const Task* task : tasks) with_it += mark_used(own, task->record);
  const UnusedMemory unused = find_unused(own, device);
  const std::uint64_t scratch = state.scratch_bytes - unused.scratch;
  const bool alone = by_tasks == 0 && scratch == 0 && kept == 0 && unused.held == 0;
  MemoryRoom room = MemoryRoom::now;
  held_bytes_ = unused.held;
  own_leaving_bytes_ = unused.own;
  if (unused.held > 0 && need.all() + unused.held > state.memory_bytes) room = MemoryRoom::held;
  // A prediction that exceeds all there is may be wrong: alone on the device it is tried.
  else if (!alone && with_it + scratch + need.scratch + kept + unused.held > state.memory_bytes)
    room = MemoryRoom::after_tasks;
  if (room != MemoryRoom::now) {
    idle_.clear();
    return room;
  }
  std::uint64_t too_many = taken + wanted - state.memory_bytes;
  too_many -= std::min(too_many, unused.own);
  const bool waits = too_many > 0 && unused.leaving > 0;
  keep_first_idle(too_many - std::min(too_many, unused.leaving));
  const bool of_others =
      std::ranges::any_of(idle_, [&](const IdleCopy& copy) { return copy.job != &own; });
  return waits || of_others ? MemoryRoom::after_copies : MemoryRoom::now;
}

/// Of a placement that looks ahead.
void Core::heed_memory(const Task& task, Candidate& c) {
  const DeviceState& device = devices_[c.device];
  if (!holds_copies(c.device)) {
    const std::uint64_t quota = task.tenant->job->memory_quota_bytes;
    const std::uint64_t room = quota == 0 || device.memory_bytes == 0
                                   ? std::max(quota, device.memory_bytes)
                                   : std::min(quota, device.memory_bytes);
    if (room == 0 || c.cost->samples == 0 || c.cost->memory.p95 <= static_cast<double>(room))
      return;
    // Its data lies in regions, which are there wherever it runs.
    const auto peak = static_cast<std::uint64_t>(std::min(c.cost->memory.p95, most_bytes));
    c.memory_free_bytes = room;
    c.memory_needed_bytes = peak - std::min(peak, data_bytes(*task.tenant->job, task.record));
    return;
  }
  const MemoryNeed need = memory_need(task, c.device);
  c.memory_free_bytes = device.memory_bytes;
  c.memory_needed_bytes = need.all();
  const MemoryRoom room = memory_room(task, c.device, need);
  if (room == MemoryRoom::now) return;
  // Nobody knows until when: as if the device were so much smaller.
  if (room == MemoryRoom::held)
    c.memory_free_bytes = device.memory_bytes - std::min(device.memory_bytes, held_bytes_);
  constexpr std::uint64_t least_ns = 1'000'000;
  const std::uint64_t end_ns = timelines_[c.device].next_end_ns(now_ns_);
  const std::uint64_t from_ns =
      std::max(now_ns_ + least_ns, end_ns == ~std::uint64_t{0} ? 0 : end_ns);
  c.at_once = false;
  c.memory_wait_ns = from_ns > c.free_ns ? from_ns - c.free_ns : 1;
  c.free_ns += c.memory_wait_ns;
}

// ---- making room --------------------------------------------------------------------------------

/// At the beginning of a decision: the first that waits in it has what is free.
void Core::forget_kept_memory() {
  if (!std::exchange(memory_is_kept_, false)) return;
  for (DeviceState& device : devices_) device.kept_bytes = device.memory_waiter = 0;
}

void Core::await_memory(Task& task, DeviceId device) {
  task.awaited_memory = device + 1;
  const Task* const one = &task;
  await_memory({&one, 1}, device, memory_need(task, device));
}

/// The task, whose turn it is, or several that start together, wait for room there: what is idle of
/// other jobs leaves, and what is free is kept for them if they are the first. Where that would not
/// do before a context goes on or ends that does not go on, others may have what is free.
void Core::await_memory(Tasks tasks, DeviceId device, const MemoryNeed& need) {
  DeviceState& state = devices_[device];
  const MemoryRoom room = memory_room(tasks, device, need);
  if (room == MemoryRoom::held) return;
  if (state.kept_bytes == 0) {
    state.memory_waiter = tasks.front()->number;
    state.kept_bytes = std::min(need.all(), state.memory_bytes);
    memory_is_kept_ = true;
  }
  if (room != MemoryRoom::after_copies) return;
  const Copies here = only_in(memories_.of(device));
  for (const IdleCopy& copy : idle_) {
    if (copy.job == tasks.front()->tenant->job) continue;
    Buffer& buffer = copy.job->buffers[copy.buffer];
    if (copy.only_one) buffer.copies = only_in(host_memory);
    buffer.copies &= ~here;
    buffer.leaving |= here;
    actions_.push_back({Action::Kind::evict, {}, buffer.owner, copy.job->id, device, copy.buffer});
  }
}

std::string Core::memory_awaited_by(std::uint64_t number, std::uint32_t uid, bool all_users) {
  const Task* task = nullptr;
  for (const auto& [id, tenant] : tenants_) {
    if (!all_users && tenant->job->user->uid != uid) continue;
    task = tenant->unfinished.next(number - 1, tasks_);
    if (task != nullptr && task->number == number) break;
    task = nullptr;
  }
  if (task == nullptr || task->state != State::ready || task->awaited_memory == 0) return {};
  const DeviceId device = task->awaited_memory - 1;
  const DeviceState& state = devices_[device];
  if (in_gang(task->record))
    return "its gang waits until members of it have room in the memory of " +
           std::string(state.name.view()) +
           ": until tasks there end, copies leave it, or contexts go on that keep it";
  const MemoryNeed need = memory_need(*task, device);
  const MemoryRoom room = memory_room(*task, device, need);
  if (room == MemoryRoom::now) return {};
  const std::string what = "it needs " + std::to_string(need.all()) + " of the " +
                           std::to_string(state.memory_bytes) + " bytes of memory of " +
                           std::string(state.name.view()) + ", ";
  if (room == MemoryRoom::held)
    return what + "of which contexts that do not go on keep " + std::to_string(held_bytes_) +
           "; resume those that are suspended (`aiosctl resume`), or end their jobs";
  return what + (room == MemoryRoom::after_tasks
                     ? "and waits for tasks there to end"
                     : "and waits for copies that nobody uses to leave it");
}

/// The task starts there.
void Core::take_memory(Task& task, DeviceId device) {
  DeviceState& state = devices_[device];
  const MemoryNeed need = memory_need(task, device);
  std::uint64_t gone_bytes = 0;
  if (state.resident_bytes + state.scratch_bytes + need.fresh + need.scratch > state.memory_bytes)
    gone_bytes = evict_own(task, device, need);
  Job& job = *task.tenant->job;
  Context& context = job.contexts[device];
  const Copies here = only_in(memories_.of(device));
  for (std::uint32_t i = 0; i < task.record.buffer_count; ++i) {
    Buffer& buffer = job.buffers[buffer_id(task.record.buffers[i])];
    buffer.last_use = decisions_;
    buffer.leaving &= ~here;
    if ((buffer.resident & here) != 0) continue;
    buffer.resident |= here;
    state.resident_bytes += buffer.bytes;
    context.resident_bytes += buffer.bytes;
  }
  context.most_resident_bytes =
      std::max(context.most_resident_bytes, context.resident_bytes - gone_bytes);
  task.scratch_bytes = need.scratch;
  state.scratch_bytes += need.scratch;
}

/// Idle copies of its own job, in which its context has the room. Returns the bytes that this
/// context has let go of by the time when the task begins. They stay counted until it has answered,
/// for other contexts cannot have them before.
std::uint64_t Core::evict_own(Task& task, DeviceId device, const MemoryNeed& need) {
  (void)memory_room(task, device, need);
  const MemoryId memory = memories_.of(device);
  std::uint64_t gone_bytes = own_leaving_bytes_;
  for (const IdleCopy& copy : idle_) {
    if (copy.job != task.tenant->job) continue;
    Buffer& buffer = copy.job->buffers[copy.buffer];
    if (copy.only_one) {
      task.transfer.bytes += buffer.bytes;
      task.transfer.ns += memories_.transfer_ns(only_in(memory), host_memory, buffer.bytes);
      buffer.copies = only_in(host_memory);
    }
    buffer.copies &= ~only_in(memory);
    buffer.leaving |= only_in(memory);
    gone_bytes += buffer.bytes;
    actions_.push_back({Action::Kind::evict, {}, buffer.owner, copy.job->id, device, copy.buffer});
  }
  return gone_bytes;
}

void Core::leave_memory(Job& job, std::uint32_t id, DeviceId device) {
  Buffer& buffer = job.buffers[id];
  const Copies here = only_in(memories_.of(device));
  if ((buffer.resident & here) == 0) return;
  devices_[device].resident_bytes -= buffer.bytes;
  job.contexts[device].resident_bytes -= buffer.bytes;
  buffer.resident &= ~here;
  buffer.leaving &= ~here;
}

void Core::buffer_evicted(JobId job, DeviceId device, std::uint32_t buffer) {
  const auto at = jobs_.find(job);
  if (at == jobs_.end() || buffer >= at->second->buffers.size()) return;
  // Since then a task may have brought it back, or its number be another buffer's.
  if ((at->second->buffers[buffer].leaving & only_in(memories_.of(device))) != 0)
    leave_memory(*at->second, buffer, device);
}

void Core::buffer_gone(JobId job, DeviceId device, std::uint32_t buffer) {
  Context* context = context_of(job, device);
  if (context == nullptr) return;
  const auto one = std::ranges::find(context->going, buffer, &Context::Going::buffer);
  if (one == context->going.end()) return;
  devices_[device].resident_bytes -= one->bytes;
  context->resident_bytes -= one->bytes;
  context->going.erase(one);
}

/// The context is gone that had them.
void Core::forget_residents(Job& job, DeviceId device) {
  if (memories_.of(device) == host_memory) return;
  Context& context = job.contexts[device];
  for (std::uint32_t i = 0; i < job.buffers.size(); ++i) leave_memory(job, i, device);
  devices_[device].resident_bytes -= context.resident_bytes;
  context.resident_bytes = context.most_resident_bytes = 0;
  context.going.clear();
}

/// It is registered no more. What contexts have of it stays counted until they have let go of it.
void Core::forget_buffer(Job& job, std::uint32_t id) {
  Buffer& buffer = job.buffers[id];
  if (buffer.resident != 0)
    for (DeviceId d = 0; d < devices_.size(); ++d)
      if (memories_.of(d) != host_memory && (buffer.resident & only_in(memories_.of(d))) != 0)
        job.contexts[d].going.push_back({id, buffer.bytes});
  job.buffer_bytes -= buffer.bytes;
  buffer = {};
}

}  // namespace aios::scheduler
