#include "services/scheduler/core/core.hpp"

#include <algorithm>
#include <cassert>

#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {

Core::Core(std::unique_ptr<Order> order, std::unique_ptr<Placement> placement,
           std::unique_ptr<Costs> costs)
    : order_(std::move(order)),
      placement_(std::move(placement)),
      looks_ahead_(placement_->looks_ahead()),
      costs_(std::move(costs)) {
  assert(costs_ != nullptr || !looks_ahead_);
}

void Core::set_device(DeviceId device, std::uint32_t slots, bool usable, std::string_view name,
                      std::uint32_t backend, std::string_view identity) {
  assert(device < max_devices && device <= devices_.size());
  if (device == devices_.size()) {
    devices_.emplace_back();
    timelines_.emplace_back();
    memories_.add_device();
    for (auto& [id, job] : jobs_) job->contexts.resize(devices_.size());
  }
  devices_[device].slots = std::min(slots, max_slots_per_device);
  const bool is_another = std::exchange(devices_[device].backend, backend) != backend;
  devices_[device].name = proto::Text<32>::from(name);
  timelines_[device].set_slots(devices_[device].slots);
  if (costs_ != nullptr)
    costs_->set_device(
        device, {.name = std::string(name), .backend = backend, .identity = std::string(identity)});
  const bool was_usable = std::exchange(devices_[device].usable, usable);
  if (was_usable && (!usable || is_another)) fail_unplaceable();
}

void Core::all_devices_known(std::string silent) {
  silent_drivers_ = std::move(silent);
  if (std::exchange(all_devices_known_, true)) return;
  fail_unplaceable();
  end_misfit_gangs();
  drop_closed_tenants();
}

void Core::set_memory_size(DeviceId device, std::uint64_t bytes) {
  // Where it is less than it was data may not fit any more.
  if (std::exchange(devices_[device].memory_bytes, bytes) != bytes) fail_unplaceable();
}

void Core::set_memory(DeviceId device, MemoryId memory) {
  memories_.set_memory(device, memory);
  count_apart();
}

void Core::set_transfer(MemoryId from, MemoryId to, TransferCost cost) {
  memories_.set_transfer(from, to, cost);
}

void Core::count_apart() {
  double all = 0;
  double together = 0;
  for (DeviceId a = 0; a < devices_.size(); ++a)
    for (DeviceId b = 0; b < devices_.size(); ++b) {
      const double pairs = static_cast<double>(devices_[a].slots) * devices_[b].slots;
      all += pairs;
      if (memories_.of(a) == memories_.of(b)) together += pairs;
    }
  apart_ = all == 0 ? 0 : 1 - together / all;
}

Result<Tenant*> Core::open(TenantId id) const {
  const auto at = tenants_.find(id);
  if (at == tenants_.end() || at->second->closing)
    return error(Code::not_found, "no tenant " + std::to_string(id) + " is open on this link");
  return at->second.get();
}

Result<User*> Core::user_of(std::uint32_t uid) {
  const auto at = users_.find(uid);
  if (at != users_.end()) return at->second.get();
  if (users_.size() >= max_users) return error(Code::quota, "too many users have tasks here");
  auto& user = users_[uid] = std::make_unique<User>();
  user->uid = uid;
  return user.get();
}

Job& Core::job_of(JobId id, std::string_view name, User& user) {
  const auto at = jobs_.find(id);
  if (at != jobs_.end()) return *at->second;
  auto& job = jobs_[id] = std::make_unique<Job>();
  job->id = id;
  job->name = name;
  job->join_names = std::make_shared<const TaskNames>(
      TaskNames{proto::kernel::Name::from(name), proto::Text<64>::from("(join)")});
  job->user = &user;
  job->contexts.resize(devices_.size());
  ++user.jobs;
  return *job;
}

Result<TenantId> Core::open_tenant(JobId id, std::string_view job_name, std::uint32_t uid) {
  // A job belongs to the user who first opened it.
  const auto known = jobs_.find(id);
  User* user = known != jobs_.end() ? known->second->user : TRY(user_of(uid));
  if (user->tenants >= max_tenants_per_user)
    return error(Code::quota, "this user has too many tenants here; close some");
  Job& job = job_of(id, job_name, *user);
  while (++last_tenant_ == 0 || tenants_.contains(last_tenant_)) {
  }
  auto& tenant = tenants_[last_tenant_] = std::make_unique<Tenant>();
  tenant->id = last_tenant_;
  tenant->job = &job;
  ++user->tenants;
  ++job.tenants;
  ++job.open_tenants;
  return last_tenant_;
}

void Core::close_tenant(TenantId id) {
  const Result<Tenant*> found = open(id);
  if (!found) return;
  Tenant& tenant = **found;
  tenant.closing = true;
  const auto unread = static_cast<std::uint32_t>(tenant.completions.size());
  tenant.completions.clear();
  tenant.pending -= unread;
  tenant.job->user->pending -= unread;
  closing_.push_back(&tenant);

  const UnfinishedIndex::Refs refs = tenant.unfinished.refs();
  for (const TaskRef& ref : refs) {
    const Task* task = tasks_.find(ref);
    if (task != nullptr && is_pending(*task))
      finish(ref.slot, {Code::cancelled, "its tenant was closed", nullptr, false});
  }
  if (--tenant.job->open_tenants == 0) close_contexts(*tenant.job);
  drop_closed_tenants();
}

void Core::drop_closed_tenants() {
  // `drop_tenant` changes the list.
  const std::vector<Tenant*> closing = closing_;
  for (Tenant* tenant : closing)
    if (tenant->pending == 0) drop_tenant(*tenant);
}

void Core::drop_tenant(Tenant& tenant) {
  Job& job = *tenant.job;
  for (std::uint32_t i = 0; i < job.buffers.size(); ++i) {
    if (job.buffers[i].owner != tenant.id) continue;
    assert(job.buffers[i].uses == 0);
    forget_buffer(job, i);
    job.free_buffers.push_back(i);
    --job.user->buffers;
  }
  if (costs_ != nullptr)
    for (const CodeletType& codelet : tenant.codelets) costs_->close_codelet(codelet.costs);
  job.user->finished_tags -= tenant.tags.finished();
  --job.user->tenants;
  --job.tenants;
  actions_.push_back({Action::Kind::tenant_closed, {}, tenant.id, job.id});
  if (std::erase(active_, &tenant) != 0) --job.user->active;
  std::erase(closing_, &tenant);
  tenants_.erase(tenant.id);
  drop_job_if_unused(job);
}

void Core::drop_job_if_unused(Job& job) {
  const bool has_context =
      std::any_of(job.contexts.begin(), job.contexts.end(),
                  [](const Context& c) { return c.state != ContextState::none; });
  if (job.tenants > 0 || has_context) return;
  User& user = *job.user;
  actions_.push_back({Action::Kind::job_closed, {}, 0, job.id});
  jobs_.erase(job.id);
  if (--user.jobs == 0) users_.erase(user.uid);
}

Result<std::uint32_t> Core::add_codelet(TenantId id, const proto::Text<64>& label,
                                        std::uint32_t backends, std::uint64_t module_hash,
                                        const Hints& hints) {
  Tenant* tenant = TRY(open(id));
  if (tenant->codelets.size() >= max_codelets_per_tenant)
    return error(Code::quota, "a tenant may register 256 codelets");
  CodeletId costs = 0;
  if (costs_ != nullptr)
    costs = costs_->open_codelet({module_hash, tenant->job->user->uid, std::string(label.view())},
                                 hints);
  const auto names = std::make_shared<const TaskNames>(
      TaskNames{proto::kernel::Name::from(tenant->job->name), label});
  tenant->codelets.push_back({names, backends, costs});
  return static_cast<std::uint32_t>(tenant->codelets.size() - 1);
}

Result<void> Core::set_cheaper(TenantId id, std::uint32_t codelet, std::uint32_t cheaper) {
  Tenant* tenant = TRY(open(id));
  std::vector<CodeletType>& codelets = tenant->codelets;
  for (const std::uint32_t one : {codelet, cheaper})
    if (one >= codelets.size())
      return error(Code::invalid_argument, "no codelet " + std::to_string(one) + " is registered");
  if (codelet == cheaper)
    return error(Code::invalid_argument, "a codelet is no cheaper variant of itself");
  if ((codelets[codelet].backends & ~codelets[cheaper].backends) != 0)
    return error(Code::invalid_argument, "codelet " + std::to_string(cheaper) +
                                             " does not run on every kind of device that codelet " +
                                             std::to_string(codelet) + " runs on");
  codelets[codelet].cheaper = cheaper;
  return {};
}

Result<std::uint32_t> Core::add_buffer(TenantId id, bool writable, std::uint64_t bytes) {
  Tenant* tenant = TRY(open(id));
  Job& job = *tenant->job;
  if (job.user->buffers >= max_buffers_per_user)
    return error(Code::quota, "a user may have 1536 buffers registered; release some");
  if (job.free_buffers.empty()) {
    job.free_buffers.push_back(static_cast<std::uint32_t>(job.buffers.size()));
    job.buffers.emplace_back();
  }
  const std::uint32_t buffer = job.free_buffers.back();
  job.free_buffers.pop_back();
  job.buffers[buffer] = {
      .owner = id, .writable = writable, .bytes = bytes, .copies = only_in(host_memory)};
  job.buffer_bytes += bytes;
  ++job.user->buffers;
  return buffer;
}

Result<void> Core::release_buffer(TenantId id, std::uint32_t buffer) {
  Tenant* tenant = TRY(open(id));
  Job& job = *tenant->job;
  if (buffer >= job.buffers.size() || job.buffers[buffer].owner != id)
    return error(Code::not_found, "no buffer " + std::to_string(buffer) + " is registered");
  if (job.buffers[buffer].uses > 0)
    return error(Code::busy, "an unfinished task names buffer " + std::to_string(buffer));
  forget_buffer(job, buffer);
  job.free_buffers.push_back(buffer);
  --job.user->buffers;
  return {};
}

Core::Finished Core::finished(TenantId id) {
  const Result<Tenant*> found = open(id);
  if (!found) return {0, true};
  Tenant& tenant = **found;
  tenant.announced = false;
  return {tenant.completions.size(), tenant.pending == tenant.completions.size()};
}

std::uint32_t Core::take_completions(TenantId id, std::span<Completion> out) {
  const Result<Tenant*> found = open(id);
  if (!found) return 0;
  Tenant& tenant = **found;
  const auto count = static_cast<std::uint32_t>(std::min(out.size(), tenant.completions.size()));
  for (std::uint32_t i = 0; i < count; ++i) {
    out[i] = tenant.completions.front();
    tenant.completions.pop_front();
  }
  tenant.pending -= count;
  tenant.job->user->pending -= count;
  return count;
}

Result<std::string> Core::failure(TenantId id, std::uint64_t tag) const {
  const Tenant* tenant = TRY(open(id));
  const auto& failures = tenant->failures;
  const auto at = std::find_if(failures.rbegin(), failures.rend(),
                               [&](const Tenant::Failure& f) { return f.tag == tag; });
  if (at == failures.rend())
    return error(Code::not_found,
                 "no failure of task " + std::to_string(tag) + " is remembered (the last 256 are)");
  return at->text;
}

const std::shared_ptr<const TaskNames>& Core::names_of(const Task& task) const {
  return is_join(task.record) ? task.tenant->job->join_names
                              : task.tenant->codelets[task.record.codelet].names;
}

Core::Listed Core::describe(const Task& task) const {
  const Tenant& tenant = *task.tenant;
  Listed out{};
  out.number = task.number;
  out.tag = task.record.tag;
  out.job_id = tenant.job->id;
  out.submitted_ns = task.submitted_ns;
  out.attempts = task.attempts;
  out.priority = task.record.priority;
  out.job_name = names_of(task)->job;
  out.codelet = names_of(task)->codelet;
  out.predicted_transfer_ns = static_cast<std::uint64_t>(task.transfer.ns);
  if (task.attempts > 0) out.device = devices_[task.device].name;
  using proto::scheduler::TaskState;
  const TaskState state = task.state == State::running ? TaskState::running
                          : task.state == State::ready ? TaskState::ready
                                                       : TaskState::waiting;
  out.state = static_cast<std::uint32_t>(state);
  return out;
}

Core::Listed Core::describe(const FinishedRing::Entry& entry) const {
  using proto::scheduler::TaskState;
  Listed out{};
  out.number = entry.number;
  out.tag = entry.tag;
  out.job_id = entry.job_id;
  out.submitted_ns = entry.submitted_ns;
  out.start_ns = entry.start_ns;
  out.end_ns = entry.end_ns;
  out.transfer_ns = entry.transfer_ns;
  out.predicted_transfer_ns = entry.predicted_transfer_ns;
  out.state = static_cast<std::uint32_t>(entry.status == 0 ? TaskState::done : TaskState::failed);
  out.status = entry.status;
  out.attempts = entry.attempts;
  out.priority = entry.priority;
  out.job_name = entry.names->job;
  out.codelet = entry.names->codelet;
  if (entry.attempts > 0) out.device = devices_[entry.device].name;
  return out;
}

Core::Listed Core::next_task(std::uint64_t after, std::uint32_t uid, bool all_users) {
  const Task* best = nullptr;
  for (const auto& [id, tenant] : tenants_) {
    if (!all_users && tenant->job->user->uid != uid) continue;
    const Task* task = tenant->unfinished.next(after, tasks_);
    if (task != nullptr && (best == nullptr || task->number < best->number)) best = task;
  }
  const FinishedRing::Entry* finished = finished_.next(after, uid, all_users);
  if (finished != nullptr && (best == nullptr || finished->number < best->number))
    return describe(*finished);
  return best == nullptr ? Listed{} : describe(*best);
}

Core::Load Core::next_load(JobId after, std::uint32_t uid, bool all_users) const {
  const Job* best = nullptr;
  for (const auto& [id, job] : jobs_)
    if (id > after && (all_users || job->user->uid == uid) && (best == nullptr || id < best->id))
      best = job.get();
  if (best == nullptr) return {};
  std::size_t running = 0;
  for (const Context& context : best->contexts) running += context.in_flight.size();
  return {.job_id = best->id,
          .tasks_done = best->tasks_done,
          .tasks_failed = best->tasks_failed,
          .busy_ns = best->busy_ns,
          .waiting = best->unfinished - static_cast<std::uint32_t>(running),
          .running = static_cast<std::uint32_t>(running)};
}

}  // namespace aios::scheduler
