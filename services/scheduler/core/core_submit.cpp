// Submitting and cancelling.
#include <cassert>

#include "services/scheduler/core/core_inline.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {
namespace {

std::uint32_t low(std::uint64_t tag) {
  return static_cast<std::uint32_t>(tag);
}

std::string task_text(const proto::scheduler::TaskRecord& record) {
  return "task " + std::to_string(record.tag) + ": ";
}

}  // namespace

Result<void> Core::submit(TenantId id, std::span<const TaskRecord> records, std::uint64_t now_ns,
                          std::uint32_t graph) {
  Tenant* tenant = TRY(open(id));
  HeldGraph* held = graph == 0 ? nullptr : TRY(held_graph(*tenant, graph));
  TRY(check_quota(*tenant, records.size()));
  if (held != nullptr && held->tasks.size() + records.size() > proto::scheduler::max_graph_tasks)
    return error(Code::quota, "a graph with a deadline has at most 32768 tasks");
  forget_old_tags(*tenant);
  TRY(check_batch(*tenant, records, now_ns));
  for (Context& context : tenant->job->contexts) context.refused = false;
  batch_.clear();
  last_times_.reset();
  const std::uint64_t first_number = last_number_ + 1;
  for (const TaskRecord& record : records) {
    const Slot slot = insert(*tenant, record, now_ns);
    // One that depends on what failed is gone, and its slot may be the next one's.
    if (tasks_[slot].state == State::waiting) batch_.push_back(slot);
  }
  if (costs_ != nullptr) rank_batch(*tenant, first_number);
  if (!doomed_members_.empty()) end_doomed_members();
  for (const Slot slot : batch_) {
    if (held != nullptr)
      hold(*tenant, *held, slot);
    else
      start_waiting(slot);
  }
  if (!complete_gangs_.empty()) end_tangled(*tenant);
  return {};
}

/// Of a task that waits, if there is nothing more that it waits for.
void Core::start_waiting(Slot slot) {
  if (tasks_[slot].state != State::waiting || tasks_[slot].remaining != 0) return;
  if (is_join(tasks_[slot].record))
    finish(slot, {Code::ok, {}, nullptr, false});
  else
    make_ready(slot);
}

Result<void> Core::check_quota(const Tenant& tenant, std::size_t count) const {
  if (count == 0 || count > proto::scheduler::max_batch)
    return error(Code::invalid_argument, "a batch is 1 to 1024 tasks");
  if (tenant.pending + count > max_pending_per_tenant)
    return error(Code::quota, "65536 tasks of this tenant are pending; fetch completions");
  if (tenant.job->user->pending + count > max_pending_per_user)
    return error(Code::quota, "131072 tasks of this user are pending; wait for completions");
  if (tasks_.used() + count > max_tasks)
    return error(Code::quota, "the scheduler's task table is full; try again later");
  return {};
}

void Core::forget_old_tags(Tenant& tenant) {
  User& user = *tenant.job->user;
  while (tenant.tags.finished() > 0 && (tenant.tags.finished() > max_finished_tags_per_tenant ||
                                        user.finished_tags > max_finished_tags_per_user)) {
    tenant.tags.forget_oldest();
    --user.finished_tags;
  }
}

Result<void> Core::check_batch(const Tenant& tenant, std::span<const TaskRecord> records,
                               std::uint64_t now_ns) {
  batch_tags_.clear();
  BatchGangs gangs;
  for (const TaskRecord& record : records) {
    TRY(check_record(record));
    if (record.deadline_ns != 0 && record.deadline_ns <= now_ns)
      return error(Code::invalid_argument,
                   task_text(record) + "its deadline passed " +
                       std::to_string((now_ns - record.deadline_ns) / 1'000'000) +
                       " ms before it was submitted; deadlines are times of the monotonic clock");
    TRY(check_references(tenant, record));
    TRY(check_dependencies(tenant, record));
    const TagIndex::Entry* known = tenant.tags.find(low(record.tag));
    if ((known != nullptr && known->slot != no_slot) ||
        !batch_tags_.emplace(low(record.tag), true).second)
      return error(Code::already_exists,
                   task_text(record) + "an unfinished task has a tag with the same low 32 bits");
    if (in_gang(record)) gangs[record.gang].push_back(&record);
  }
  return gangs.empty() ? Result<void>() : check_gangs(tenant, gangs);
}

Result<void> Core::check_references(const Tenant& tenant, const TaskRecord& record) const {
  if (is_join(record)) return {};
  if (record.codelet >= tenant.codelets.size())
    return error(Code::invalid_argument, task_text(record) + "no codelet " +
                                             std::to_string(record.codelet) + " is registered");
  const std::vector<Buffer>& buffers = tenant.job->buffers;
  for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
    const std::uint32_t buffer = buffer_id(record.buffers[i]);
    if (buffer >= buffers.size() || buffers[buffer].owner != tenant.id)
      return error(Code::invalid_argument,
                   task_text(record) + "no buffer " + std::to_string(buffer) + " is registered");
    if (mode_writes(buffer_mode(record.buffers[i])) && !buffers[buffer].writable)
      return error(Code::invalid_argument, task_text(record) + "it writes buffer " +
                                               std::to_string(buffer) +
                                               ", which is registered read-only");
  }
  return check_device(tenant, record);
}

Result<void> Core::check_device(const Tenant& tenant, const TaskRecord& record) const {
  if (!all_devices_known_) return {};
  const std::string silent =
      silent_drivers_.empty()
          ? ""
          : "; nothing has been heard yet of these drivers: " + silent_drivers_ +
                " (`aiosctl devices` says why)";
  if (record.device > devices_.size())
    return error(Code::invalid_argument, task_text(record) + "there is no device " +
                                             std::to_string(record.device - 1) + silent);
  bool suited = false;
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (!suits(tenant, record, d)) continue;
    if (devices_[d].usable) return {};
    suited = true;
  }
  if (suited)
    return error(Code::service_down,
                 task_text(record) + "the only device that it can run on is gone");
  TRY(check_data(tenant, record));
  return error(Code::not_supported,
               task_text(record) + "its module has no code for " +
                   (record.device != 0 ? "the device that it names" : "any device here" + silent));
}

/// Of one that no device suits: whether only their memories are too small.
Result<void> Core::check_data(const Tenant& tenant, const TaskRecord& record) const {
  const DeviceState* largest = nullptr;
  for (DeviceId d = 0; d < devices_.size(); ++d)
    if ((record.device == 0 || record.device == d + 1) && has_code_for(tenant, record, d) &&
        (largest == nullptr || devices_[d].memory_bytes > largest->memory_bytes))
      largest = &devices_[d];
  if (largest == nullptr) return {};
  return error(Code::no_memory, task_text(record) + "its buffers have " +
                                    std::to_string(data_bytes(*tenant.job, record)) +
                                    " bytes, and " + std::string(largest->name.view()) +
                                    ", of those that can run it the device with "
                                    "most memory, has " +
                                    std::to_string(largest->memory_bytes) +
                                    "; give it smaller pieces, or a module with code for the CPU");
}

Result<void> Core::check_dependencies(const Tenant& tenant, const TaskRecord& record) const {
  for (std::uint32_t i = 0; i < record.dependency_count; ++i) {
    const std::uint32_t tag = record.dependencies[i];
    if (!batch_tags_.contains(tag) && tenant.tags.find(tag) == nullptr)
      return error(Code::invalid_argument, task_text(record) + "it depends on task " +
                                               std::to_string(tag) + ", which is not known");
  }
  return {};
}

Slot Core::insert(Tenant& tenant, const TaskRecord& record, std::uint64_t now_ns) {
  const Slot slot = tasks_.allocate();
  Task& task = tasks_[slot];
  task.record = record;
  task.number = ++last_number_;
  task.submitted_ns = task.ready_ns = now_ns;
  task.tenant = &tenant;
  task.state = State::waiting;
  if (!is_join(record)) {
    ++tenant.codelets[record.codelet].unfinished;
    ++tenant.job->unfinished;
  }
  if (costs_ != nullptr) {
    task.work = work_of(tenant, record);
    const Times& times = times_in_batch(tenant, task);
    task.mean_ns = times.mean_ns;
    task.work_ns = times.together_ns;
    admission_.arrived(tenant.job->user->uid, record.priority, task.work_ns);
  }
  ++tenant.pending;
  ++tenant.job->user->pending;
  for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
    Buffer& buffer = tenant.job->buffers[buffer_id(record.buffers[i])];
    // Without tasks it was the client's to change.
    if (buffer.uses++ > 0) continue;
    ++buffer.content;
    if (memories_.copies_back()) buffer.copies = only_in(host_memory);
  }

  std::uint64_t failed_tag = 0;
  bool failed = false;
  for (std::uint32_t i = 0; i < record.dependency_count; ++i) {
    const TagIndex::Entry* known = tenant.tags.find(record.dependencies[i]);
    assert(known != nullptr);
    if (known->slot != no_slot) {
      tasks_.add_dependency(slot, known->slot);
    } else if (known->failed) {
      failed = true;
      failed_tag = record.dependencies[i];
    }
  }
  tenant.tags.add(low(record.tag), slot);
  tenant.unfinished.add({slot, task.number}, tasks_);
  if (in_gang(record)) enter_gang(tenant, slot);
  if (failed && in_gang(record))
    doomed_members_.emplace_back(TaskRef{slot, task.number}, failed_tag);
  else if (failed)
    finish(slot,
           {Code::cancelled, "task " + std::to_string(failed_tag) + ", on which it depends, failed",
            nullptr, true});
  return slot;
}

Rank Core::rank(const Task& task) const {
  const std::uint64_t deadline_ns = task.record.deadline_ns;
  return order_->rank({task.number, task.record.priority,
                       deadline_ns == 0 ? no_deadline : deadline_ns, rank_in_steps_ns(task)});
}

/// Of what is brief so much goes ahead to a context that smaller differences are of no use there.
/// And they are less than the error of ranks, since a batch of tasks is ranked by what was known
/// when it came: by them the tasks of a row, which could run at the same time, would come apart,
/// and each be followed in its batch by one that waits for it.
std::uint64_t Core::rank_in_steps_ns(const Task& task) const {
  const std::uint64_t rank_ns = task.upward_rank_ns;
  for (DeviceId d = 0; rank_ns != 0 && d < devices_.size(); ++d)
    if (is_brief(*task.tenant, task, d)) return rank_ns - rank_ns % max_ahead_ns_per_slot;
  return rank_ns;
}

void Core::make_ready(Slot slot) {
  if (in_gang(tasks_[slot].record)) return ready_in_gang(slot);
  assert(tasks_[slot].state != State::ready);
  enqueue(slot);
}

void Core::enqueue(Slot slot) {
  Task& task = tasks_[slot];
  task.state = State::ready;
  Tenant& tenant = *task.tenant;
  tenant.ready.push(rank(task), {slot, task.number});
  if (tenant.active) return;
  tenant.active = true;
  active_.push_back(&tenant);
  wakes(tenant);
}

Result<void> Core::cancel(TenantId id, std::uint64_t tag) {
  Tenant* tenant = TRY(open(id));
  const TagIndex::Entry* known = tenant->tags.find(low(tag));
  if (known == nullptr || known->slot == no_slot || tasks_[known->slot].record.tag != tag)
    return error(Code::not_found, "no unfinished task has tag " + std::to_string(tag));
  if (tasks_[known->slot].state == State::running)
    return error(Code::busy, "task " + std::to_string(tag) + " is running");
  finish(known->slot, {Code::cancelled, "cancelled by its client", nullptr, false});
  return {};
}

Result<Core::Cancelled> Core::cancel_range(TenantId id, std::uint64_t first, std::uint64_t last) {
  Tenant* tenant = TRY(open(id));
  Cancelled counts;
  std::vector<TaskRef> pending;
  for (const TaskRef& ref : tenant->unfinished.refs()) {
    const Task* task = tasks_.find(ref);
    if (task == nullptr || task->record.tag < first || task->record.tag > last) continue;
    if (task->state == State::running) ++counts.running;
    if (is_pending(*task)) pending.push_back(ref);
  }
  counts.pending = static_cast<std::uint32_t>(pending.size());
  // The last first: none then goes only because one that it depends on went; but the rest of a gang
  // goes with the first.
  for (std::size_t i = pending.size(); i-- > 0;)
    if (const Task* task = tasks_.find(pending[i]); task != nullptr && is_pending(*task))
      finish(pending[i].slot, {Code::cancelled, "cancelled by its client", nullptr, false});
  return counts;
}

}  // namespace aios::scheduler
