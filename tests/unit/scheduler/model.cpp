#include "tests/unit/scheduler/model.hpp"

#include <tuple>

namespace aios::scheduler {

std::uint64_t Model::find(TenantId tenant, std::uint64_t tag) const {
  for (const auto& [number, task] : tasks)
    if (task.tenant == tenant && task.tag == tag) return number;
  return 0;
}

void Model::submit(TenantId id, const proto::scheduler::TaskRecord& record) {
  ModelTenant& tenant = tenants[id];
  refused.erase(tenant.job);
  ModelTask task{id, record.tag, record.priority, record.flags != 0, {}};
  bool failed = false;
  for (std::uint32_t i = 0; i < record.dependency_count; ++i) {
    const std::uint64_t tag = record.dependencies[i];
    if (find(id, tag) != 0)
      task.needs.push_back(tag);
    else
      failed = failed || tenant.finished.at(tag) != Code::ok;
  }
  const std::uint64_t number = ++last_number_;
  tasks[number] = task;
  if (failed) finish(number, Code::cancelled);
}

void Model::finish(std::uint64_t number, Code code) {
  const ModelTask done = tasks.at(number);
  tasks.erase(number);
  ModelTenant& tenant = tenants[done.tenant];
  tenant.finished[done.tag] = code;
  if (!tenant.closing) tenant.unread.emplace_back(done.tag, code);
  std::vector<std::uint64_t> doomed;
  for (auto& [other, task] : tasks)
    if (task.tenant == done.tenant && std::erase(task.needs, done.tag) != 0 && code != Code::ok)
      doomed.push_back(other);
  for (const std::uint64_t other : doomed)
    if (tasks.contains(other)) finish(other, Code::cancelled);
}

void Model::answer(std::uint64_t number, Code code) {
  if (code == Code::timed_out) limit_answered.insert(tenants[tasks.at(number).tenant].job);
  finish(number, code);
}

std::vector<std::uint64_t> Model::in_context(JobId job) const {
  std::vector<std::uint64_t> numbers;
  for (const auto& [number, task] : tasks)
    if (task.running && tenants.at(task.tenant).job == job) numbers.push_back(number);
  return numbers;
}

void Model::end(JobId job, proto::driver::ContextEnd how) {
  using How = proto::driver::ContextEnd;
  const std::vector<std::uint64_t> there = in_context(job);
  const bool answered = limit_answered.erase(job) != 0;
  doors[job] = Door::shut;
  for (const std::uint64_t number : there) {
    ModelTask& task = tasks.at(number);
    task.running = false;
    if (tenants[task.tenant].closing) {
      finish(number, Code::cancelled);
    } else if (task.begun && !task.idempotent) {
      finish(number, Code::indeterminate);
    } else if (how == How::limit && answered) {
      task.begun = false;
    } else if (how == How::limit && (there.size() == 1 || !task.begun)) {
      finish(number, Code::timed_out);
    } else {
      if (how == How::fault && there.size() == 1) ++task.lone_faults;
      if (++task.ends >= 8 || task.lone_faults >= 2) {
        finish(number, Code::crashed);
      } else {
        task.suspect = true;
        task.begun = false;
      }
    }
  }
}

void Model::refuse(JobId job, Code code) {
  doors[job] = Door::shut;
  limit_answered.erase(job);
  refused.insert(job);
  for (const std::uint64_t number : in_context(job)) {
    const ModelTask& task = tasks.at(number);
    finish(number, task.begun && !task.idempotent ? Code::indeterminate : code);
  }
  std::vector<std::uint64_t> ready;
  for (const auto& [number, task] : tasks)
    if (tenants[task.tenant].job == job && task.needs.empty()) ready.push_back(number);
  for (const std::uint64_t number : ready) finish(number, code);
}

void Model::close_tenant(TenantId id) {
  ModelTenant& tenant = tenants[id];
  tenant.closing = true;
  tenant.unread.clear();
  std::vector<std::uint64_t> pending;
  for (const auto& [number, task] : tasks)
    if (task.tenant == id && !task.running) pending.push_back(number);
  for (const std::uint64_t number : pending) tasks.erase(number);
  const bool last = std::none_of(tenants.begin(), tenants.end(), [&](const auto& entry) {
    return entry.second.job == tenant.job && !entry.second.closing;
  });
  if (last && doors[tenant.job] != Door::shut) doors[tenant.job] = Door::closing;
}

bool Model::holds_slot(const ModelTask& task) const {
  return task.running && doors.at(tenants.at(task.tenant).job) == Door::open;
}

std::uint32_t Model::slots_used() const {
  return static_cast<std::uint32_t>(std::count_if(
      tasks.begin(), tasks.end(), [&](const auto& entry) { return holds_slot(entry.second); }));
}

/// The tenant's ready task with the highest priority, of those the earliest; 0: none.
std::uint64_t Model::head(TenantId id) const {
  std::uint64_t best = 0;
  for (const auto& [number, task] : tasks)
    if (task.tenant == id && !task.running && task.needs.empty() &&
        (best == 0 || task.priority > tasks.at(best).priority))
      best = number;
  return best;
}

bool Model::can_start(std::uint64_t number) const {
  const ModelTask& task = tasks.at(number);
  const ModelTenant& tenant = tenants.at(task.tenant);
  if (!doors.contains(tenant.job) || doors.at(tenant.job) != Door::open) return false;
  const bool user_idle = std::none_of(tasks.begin(), tasks.end(), [&](const auto& entry) {
    return holds_slot(entry.second) && tenants.at(entry.second.tenant).user == tenant.user;
  });
  if (slots_used() >= slots_ && !user_idle) return false;
  const std::vector<std::uint64_t> there = in_context(tenant.job);
  const bool has_suspect =
      std::any_of(there.begin(), there.end(), [&](std::uint64_t n) { return tasks.at(n).suspect; });
  return there.empty() || (!task.suspect && !has_suspect);
}

std::vector<std::uint64_t> Model::decide(std::set<JobId>& opens) {
  std::vector<std::uint64_t> started;
  while (true) {
    std::uint64_t best = 0;
    const auto before = [&](std::uint64_t a, std::uint64_t b) {
      const ModelTask& x = tasks.at(a);
      const ModelTask& y = tasks.at(b);
      const ModelTenant& tx = tenants.at(x.tenant);
      const ModelTenant& ty = tenants.at(y.tenant);
      if (tx.user != ty.user)
        return std::tuple(user_turn_[tx.user], tx.user) < std::tuple(user_turn_[ty.user], ty.user);
      return std::tuple(-std::int64_t{x.priority}, tx.turn, x.tenant) <
             std::tuple(-std::int64_t{y.priority}, ty.turn, y.tenant);
    };
    for (const auto& [id, tenant] : tenants) {
      const std::uint64_t number = head(id);
      if (number != 0 && can_start(number) && (best == 0 || before(number, best))) best = number;
    }
    if (best == 0) break;
    ModelTask& task = tasks.at(best);
    task.running = true;
    tenants[task.tenant].turn = user_turn_[tenants[task.tenant].user] = ++last_turn_;
    started.push_back(best);
  }
  for (const auto& [id, tenant] : tenants)
    if (head(id) != 0 && doors[tenant.job] == Door::shut && !refused.contains(tenant.job)) {
      doors[tenant.job] = Door::opening;
      opens.insert(tenant.job);
    }
  return started;
}

}  // namespace aios::scheduler
