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
  namespace flag = proto::scheduler::task_flag;
  ModelTask task{id, record.tag, record.priority, (record.flags & flag::idempotent) != 0, {}};
  bool failed = false;
  for (std::uint32_t i = 0; i < record.dependency_count; ++i) {
    const std::uint64_t tag = record.dependencies[i];
    if (find(id, tag) != 0)
      task.needs.push_back(tag);
    else
      failed = failed || tenant.finished.at(tag) != Code::ok;
  }
  const std::uint64_t number = ++last_number_;
  if ((record.flags & flag::gang) != 0) {
    task.gang = record.gang;
    ModelGang& gang = tenant.gangs[task.gang];
    gang.size = record.gang_size;
    ++gang.came;
    failed = failed || gang.failed;
  }
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
  if (done.gang != 0 && code != Code::ok) {
    tenant.gangs[done.gang].failed = true;
    for (const std::uint64_t other : mates(done))
      if (!tasks.at(other).running) doomed.push_back(other);
  }
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
  const bool alone =
      there.size() == 1 || std::all_of(there.begin(), there.end(), [&](std::uint64_t number) {
        const ModelTask& one = tasks.at(number);
        const ModelTask& first = tasks.at(there.front());
        return one.gang != 0 && one.gang == first.gang && one.tenant == first.tenant;
      });
  const bool limit_told = limit_answered.erase(job) != 0;
  // A processor's context goes on after what it answers as crashed.
  const bool answered = how != How::fault && limit_told;
  doors[job] = Door::shut;
  for (const std::uint64_t number : there) {
    ModelTask& task = tasks.at(number);
    task.running = false;
    if (tenants[task.tenant].closing) {
      finish(number, Code::cancelled);
    } else if (task.begun && !task.idempotent) {
      finish(number, Code::indeterminate);
    } else if (answered) {
      again(number);
    } else if (how == How::limit && (alone || !task.begun)) {
      finish(number, Code::timed_out);
    } else {
      if (how == How::fault && alone) ++task.lone_faults;
      if (++task.ends >= 8 || task.lone_faults >= 2) {
        finish(number, Code::crashed);
      } else {
        task.suspect = true;
        again(number);
      }
    }
  }
}

/// It is to run again, unless its gang has failed meanwhile.
void Model::again(std::uint64_t number) {
  ModelTask& task = tasks.at(number);
  task.begun = task.running = false;
  if (task.gang != 0 && tenants.at(task.tenant).gangs.at(task.gang).failed)
    finish(number, Code::cancelled);
}

void Model::refuse(JobId job, Code code) {
  doors[job] = Door::shut;
  limit_answered.erase(job);
  refused.insert(job);
  for (const std::uint64_t number : in_context(job)) {
    const ModelTask& task = tasks.at(number);
    if (task.begun && !task.idempotent)
      finish(number, Code::indeterminate);
    else
      again(number);
  }
  std::vector<std::uint64_t> pending;
  for (const auto& [number, task] : tasks)
    if (tenants.at(task.tenant).job == job && !task.running) pending.push_back(number);
  // The first are told why; of a gang, and of those that wait for them, the others go with them.
  for (const std::uint64_t number : pending)
    if (tasks.contains(number)) finish(number, code);
}

void Model::close_tenant(TenantId id) {
  ModelTenant& tenant = tenants[id];
  tenant.closing = true;
  tenant.unread.clear();
  std::vector<std::uint64_t> pending;
  for (const auto& [number, task] : tasks)
    if (task.tenant == id && !task.running) pending.push_back(number);
  for (const std::uint64_t number : pending) {
    if (const std::uint32_t gang = tasks.at(number).gang; gang != 0)
      tenant.gangs[gang].failed = true;
    tasks.erase(number);
  }
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

Model::Numbers Model::mates(const ModelTask& task) const {
  Numbers all;
  for (const auto& [number, other] : tasks)
    if (other.tenant == task.tenant && other.gang == task.gang) all.push_back(number);
  return all;
}

bool Model::could_start(const ModelTask& task) const {
  return !task.running && task.needs.empty();
}

/// Of one tenant.
bool Model::comes_before(std::uint64_t a, std::uint64_t b) const {
  return std::tuple(-std::int64_t{tasks.at(a).priority}, a) <
         std::tuple(-std::int64_t{tasks.at(b).priority}, b);
}

std::vector<Model::Numbers> Model::queue(TenantId id) const {
  std::vector<Numbers> all;
  const auto before = [this](std::uint64_t a, std::uint64_t b) { return comes_before(a, b); };
  for (const auto& [number, task] : tasks) {
    if (task.tenant != id || !could_start(task)) continue;
    if (task.gang == 0) {
      all.push_back({number});
      continue;
    }
    const ModelGang& gang = tenants.at(id).gangs.at(task.gang);
    Numbers together = mates(task);
    if (gang.came < gang.size ||
        !std::all_of(together.begin(), together.end(),
                     [this](std::uint64_t n) { return could_start(tasks.at(n)); }))
      continue;
    // Once for each gang, and its first in front.
    const auto first = std::min_element(together.begin(), together.end(), before);
    if (*first != number) continue;
    std::erase(together, number);
    together.insert(together.begin(), number);
    all.push_back(together);
  }
  std::sort(all.begin(), all.end(),
            [&](const Numbers& a, const Numbers& b) { return comes_before(a.front(), b.front()); });
  return all;
}

/// What is kept for gangs that came before this one, or for all.
std::uint32_t Model::kept(std::uint64_t before) const {
  std::uint32_t sum = 0;
  for (const Reservation& r : reservations_) {
    if (r.leader == before) break;
    sum += r.slots;
  }
  return sum;
}

bool Model::may_pass(const ModelTenant& tenant, bool user_idle) const {
  const std::uint32_t free = slots_ - std::min(slots_, slots_used());
  if (kept(0) == 0 || free > kept(0)) return true;
  return user_idle && std::none_of(reservations_.begin(), reservations_.end(), [&](const auto& r) {
           return r.slots > 0 && tenants.at(tasks.at(r.leader).tenant).user == tenant.user;
         });
}

bool Model::can_start(const Numbers& together) const {
  const ModelTask& task = tasks.at(together.front());
  const ModelTenant& tenant = tenants.at(task.tenant);
  if (!doors.contains(tenant.job) || doors.at(tenant.job) != Door::open) return false;
  const bool user_idle = std::none_of(tasks.begin(), tasks.end(), [&](const auto& entry) {
    return holds_slot(entry.second) && tenants.at(entry.second.tenant).user == tenant.user;
  });
  if (task.gang != 0) {
    if (slots_used() + kept(together.front()) + together.size() > slots_) return false;
  } else if ((slots_used() >= slots_ && !user_idle) || !may_pass(tenant, user_idle)) {
    return false;
  }
  const Numbers there = in_context(tenant.job);
  const auto is_suspect = [&](std::uint64_t n) { return tasks.at(n).suspect; };
  return there.empty() || (!std::any_of(together.begin(), together.end(), is_suspect) &&
                           !std::any_of(there.begin(), there.end(), is_suspect));
}

Model::Numbers Model::next(TenantId id) const {
  for (const Numbers& together : queue(id)) {
    if (can_start(together)) return together;
    // Who has to run alone is not passed.
    if (std::any_of(together.begin(), together.end(),
                    [&](std::uint64_t n) { return tasks.at(n).suspect; }))
      return {};
  }
  return {};
}

/// Slots for the gangs that are the first of their queues, in the order in which they came there.
void Model::reserve() {
  std::set<std::uint64_t> leaders;
  std::set<std::uint64_t> first;
  for (const auto& [id, tenant] : tenants) {
    const std::vector<Numbers> all = queue(id);
    for (const Numbers& together : all)
      if (together.size() > 1 || tasks.at(together.front()).gang != 0)
        leaders.insert(together.front());
    if (!all.empty() && leaders.contains(all.front().front())) first.insert(all.front().front());
  }
  std::erase_if(reservations_, [&](const auto& r) { return !leaders.contains(r.leader); });
  for (const std::uint64_t leader : first)
    if (std::none_of(reservations_.begin(), reservations_.end(),
                     [&](const auto& r) { return r.leader == leader; }))
      reservations_.push_back({leader, 0});
  std::uint32_t sum = 0;
  for (Reservation& r : reservations_) {
    const ModelTask& leader = tasks.at(r.leader);
    const auto size = static_cast<std::uint32_t>(mates(leader).size());
    const JobId job = tenants.at(leader.tenant).job;
    const bool has_door = doors.contains(job) && doors.at(job) == Door::open;
    r.slots = has_door && sum + size <= slots_ ? size : 0;
    sum += r.slots;
  }
}

std::vector<std::uint64_t> Model::decide(std::set<JobId>& opens) {
  std::vector<std::uint64_t> started;
  reserve();
  while (true) {
    Numbers best;
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
      const Numbers together = next(id);
      if (!together.empty() && (best.empty() || before(together.front(), best.front())))
        best = together;
    }
    if (best.empty()) break;
    std::erase_if(reservations_, [&](const auto& r) { return r.leader == best.front(); });
    // As they came.
    std::sort(best.begin(), best.end());
    for (const std::uint64_t number : best) {
      ModelTask& task = tasks.at(number);
      task.running = true;
      tenants[task.tenant].turn = user_turn_[tenants[task.tenant].user] = ++last_turn_;
      started.push_back(number);
    }
  }
  for (const auto& [id, tenant] : tenants)
    if (!queue(id).empty() && doors[tenant.job] == Door::shut && !refused.contains(tenant.job)) {
      doors[tenant.job] = Door::opening;
      opens.insert(tenant.job);
    }
  return started;
}

}  // namespace aios::scheduler
