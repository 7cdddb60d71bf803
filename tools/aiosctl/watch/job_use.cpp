#include "tools/aiosctl/watch/job_use.hpp"

#include <algorithm>

namespace aios::ctl {

namespace {

double seconds_between(const Snapshot& before, const Snapshot& now) {
  return now.at_ns <= before.at_ns ? 0 : static_cast<double>(now.at_ns - before.at_ns) / 1e9;
}

const SeenJob* job_in(const Snapshot& snapshot, std::uint64_t id) {
  const auto at = std::ranges::lower_bound(snapshot.jobs, id, {},
                                           [](const SeenJob& job) { return job.record.job_id; });
  return at == snapshot.jobs.end() || at->record.job_id != id ? nullptr : &*at;
}

std::size_t index_in(const Snapshot& snapshot, std::uint64_t id) {
  const SeenJob* const job = job_in(snapshot, id);
  return job == nullptr ? snapshot.jobs.size()
                        : static_cast<std::size_t>(job - snapshot.jobs.data());
}

bool has_group(const ListedJob& job) {
  return job.cpu_ns != 0 || job.own_memory_bytes != 0;
}

/// What jobs have themselves becomes what they have with those below. `by_group` puts what a
/// control group says in the place of the sum.
template <class Value, class ByGroup>
void add_up(const Snapshot& snapshot, std::vector<Value>& values, ByGroup by_group) {
  // From the last: what is below a job has been added to it by then.
  for (std::size_t i = values.size(); i-- > 0;) {
    by_group(snapshot.jobs[i].record, values[i]);
    const std::size_t above = index_in(snapshot, snapshot.jobs[i].record.parent_id);
    if (above < values.size()) values[above] += values[i];
  }
}

/// A counter that has become less began anew with its server.
double grown(std::uint64_t before, std::uint64_t now) {
  return static_cast<double>(now >= before ? now - before : now);
}

TaskRates rates_between(std::uint64_t done_before, std::uint64_t done, std::uint64_t busy_before,
                        std::uint64_t busy, double seconds) {
  return {grown(done_before, done) / seconds, grown(busy_before, busy) / 1e9 / seconds};
}

/// Of a process that was not there before: what it has had if it is new, else nobody knows.
std::uint64_t cpu_since(const Snapshot& before, const SeenProcess& process) {
  const auto at = std::ranges::lower_bound(before.processes, process.pid, {}, &SeenProcess::pid);
  const bool same = at != before.processes.end() && at->pid == process.pid &&
                    at->use.started_ns == process.use.started_ns;
  if (same) return process.use.cpu_ns - std::min(at->use.cpu_ns, process.use.cpu_ns);
  return process.use.started_ns >= before.boot_ns ? process.use.cpu_ns : 0;
}

}  // namespace

void JobSums::operator+=(const JobSums& below) {
  cpu_ns += below.cpu_ns;
  memory_bytes += below.memory_bytes;
  has_tasks = has_tasks || below.has_tasks;
  tasks_done += below.tasks_done;
  tasks_failed += below.tasks_failed;
  busy_ns += below.busy_ns;
  waiting += below.waiting;
  running += below.running;
}

void JobRates::operator+=(const JobRates& below) {
  cores += below.cores;
  tasks.tasks_per_s += below.tasks.tasks_per_s;
  tasks.busy_threads += below.tasks.busy_threads;
}

std::vector<JobSums> sums_of(const Snapshot& snapshot) {
  std::vector<JobSums> sums(snapshot.jobs.size());
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const auto& load = snapshot.jobs[i].load;
    sums[i].has_tasks = load.job_id != 0;
    sums[i].tasks_done = load.tasks_done;
    sums[i].tasks_failed = load.tasks_failed;
    sums[i].busy_ns = load.busy_ns;
    sums[i].waiting = load.waiting;
    sums[i].running = load.running;
  }
  for (const SeenProcess& process : snapshot.processes) {
    const std::size_t index = index_in(snapshot, process.job_id);
    if (index == sums.size()) continue;
    sums[index].cpu_ns += process.use.cpu_ns;
    sums[index].memory_bytes += process.use.memory_bytes;
  }
  add_up(snapshot, sums, [](const ListedJob& job, JobSums& sum) {
    if (!has_group(job)) return;
    sum.cpu_ns = job.cpu_ns;
    sum.memory_bytes = job.own_memory_bytes;
  });
  return sums;
}

std::vector<JobRates> rates_of(const Snapshot& before, const Snapshot& now) {
  std::vector<JobRates> rates(now.jobs.size());
  const double seconds = seconds_between(before, now);
  if (seconds == 0) return rates;
  for (std::size_t i = 0; i < rates.size() && before.knows_tasks && now.knows_tasks; ++i) {
    static const SeenJob none{};
    const SeenJob* const then = job_in(before, now.jobs[i].record.job_id);
    const auto& was = then == nullptr ? none.load : then->load;
    const auto& is = now.jobs[i].load;
    rates[i].tasks = rates_between(was.tasks_done, is.tasks_done, was.busy_ns, is.busy_ns, seconds);
  }
  for (const SeenProcess& process : now.processes)
    if (const std::size_t index = index_in(now, process.job_id); index < rates.size())
      rates[index].cores += static_cast<double>(cpu_since(before, process)) / 1e9 / seconds;
  add_up(now, rates, [&](const ListedJob& job, JobRates& rate) {
    if (!has_group(job)) return;
    const SeenJob* const then = job_in(before, job.job_id);
    rate.cores = grown(then == nullptr ? 0 : then->record.cpu_ns, job.cpu_ns) / 1e9 / seconds;
  });
  return rates;
}

std::optional<std::vector<TaskRates>> device_rates_of(const Snapshot& before, const Snapshot& now) {
  const double seconds = seconds_between(before, now);
  if (!before.knows_tasks || !now.knows_tasks || seconds == 0) return std::nullopt;
  std::vector<TaskRates> rates;
  for (std::size_t i = 0; i < now.devices.size(); ++i) {
    const ListedDevice was = i < before.devices.size() ? before.devices[i] : ListedDevice{};
    const ListedDevice& is = now.devices[i];
    rates.push_back(rates_between(was.tasks_done, is.tasks_done, was.busy_ns, is.busy_ns, seconds));
  }
  return rates;
}

}  // namespace aios::ctl
