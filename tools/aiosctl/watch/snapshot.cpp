#include "tools/aiosctl/watch/snapshot.hpp"

#include <algorithm>
#include <set>

#include "tools/aiosctl/instances/program_signals.hpp"

namespace aios::ctl {

namespace {

namespace pk = proto::kernel;
namespace tasks = proto::scheduler;

constexpr std::uint64_t patience_ns = 2 * ns_per_s;

JobUse* find(std::vector<JobUse>& jobs, std::uint64_t id) {
  const auto at =
      std::ranges::lower_bound(jobs, id, {}, [](const JobUse& j) { return j.record.job_id; });
  return at == jobs.end() || at->record.job_id != id ? nullptr : &*at;
}

}  // namespace

void add_to_jobs_above(std::vector<JobUse>& jobs) {
  // From the last: what is below has been added up by then.
  for (std::size_t i = jobs.size(); i-- > 0;) {
    JobUse& job = jobs[i];
    if (job.record.cpu_ns != 0 || job.record.own_memory_bytes != 0)
      job.processes = {job.record.cpu_ns, job.record.own_memory_bytes};
    JobUse* const above = find(jobs, job.record.parent_id);
    if (above == nullptr) continue;
    above->processes.cpu_ns += job.processes.cpu_ns;
    above->processes.memory_bytes += job.processes.memory_bytes;
    if (job.load.job_id == 0) continue;
    tasks::LoadNext::Reply& load = above->load;
    load.job_id = above->record.job_id;
    load.tasks_done += job.load.tasks_done;
    load.tasks_failed += job.load.tasks_failed;
    load.busy_ns += job.load.busy_ns;
    load.waiting += job.load.waiting;
    load.running += job.load.running;
  }
}

Result<Watcher> Watcher::attach(const Session& session) {
  return Watcher(TRY(Operator::attach(session)));
}

Result<Snapshot> Watcher::look() {
  Snapshot out;
  out.instance = TRY(attached_->kernel().call<pk::InstanceInfo>({})).reply;
  const std::vector<ListedJob> jobs = TRY(list_jobs(*attached_));
  for (const ListedJob& job : jobs) out.jobs.push_back({job, path_of(job, jobs), {}, {}});
  TRY(look_at_processes(out.jobs));

  const Deadline deadline = Deadline::after(patience_ns);
  const auto note = [&out](const char* server, const Result<void>& looked) {
    if (!looked) out.silent.push_back(std::string(server) + ": " + looked.error().message());
  };
  if (auto servers = list_servers(*attached_, deadline))
    out.servers = *std::move(servers);
  else
    note("supervisor", std::unexpected(servers.error()));
  note("scheduler", look_at_scheduler(out, deadline));
  note("storage", look_at_storage(out, deadline));
  add_to_jobs_above(out.jobs);
  out.at_ns = now_ns();
  return out;
}

Result<Client*> Watcher::client(const std::string& label, std::uint64_t version) {
  std::unique_ptr<Client>& client = clients_[label];
  if (client == nullptr) client = TRY(attached_->client(label, version));
  return client.get();
}

Result<void> Watcher::look_at_scheduler(Snapshot& out, Deadline deadline) {
  Client* const scheduler = TRY(client(tasks::Protocol::name, tasks::Protocol::version));
  out.devices = TRY(list_devices(*scheduler, deadline));
  for (std::uint64_t after = 0, listed = 0; listed < max_listed; ++listed) {
    const auto load = TRY(scheduler->call<tasks::LoadNext>({after}, deadline));
    if (load.job_id == 0) break;
    after = load.job_id;
    if (JobUse* const job = find(out.jobs, load.job_id)) job->load = load;
  }
  return {};
}

Result<void> Watcher::look_at_storage(Snapshot& out, Deadline deadline) {
  namespace wire = proto::storage;
  Client* const storage = TRY(client(wire::Protocol::name, wire::Protocol::version));
  out.storage = TRY(storage->call<wire::Info>({}, deadline));
  return {};
}

Result<void> Watcher::look_at_processes(std::vector<JobUse>& jobs) {
  const auto processes = TRY(list_processes(*attached_));
  if (!check_namespace(attached_->kernel())) return {};
  const auto children = children_by_parent();
  // A program may have attached that another one has started.
  std::set<pid_t> counted;
  for (const pk::ProcessRecord& process : processes) {
    JobUse* const job = find(jobs, process.job_id);
    if (job == nullptr) continue;
    const auto pid = static_cast<pid_t>(process.pid);
    const auto all = process.outside != 0 ? tree_below(pid, children) : std::vector<pid_t>{pid};
    for (const pid_t one : all) {
      if (!counted.insert(one).second) continue;
      const ProcessUse use = use_of_process(one);
      job->processes.cpu_ns += use.cpu_ns;
      job->processes.memory_bytes += use.memory_bytes;
    }
  }
  return {};
}

}  // namespace aios::ctl
