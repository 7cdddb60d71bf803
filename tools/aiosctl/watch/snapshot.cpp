#include "tools/aiosctl/watch/snapshot.hpp"

#include <time.h>

#include <algorithm>
#include <set>

#include "tools/aiosctl/instances/program_signals.hpp"

namespace aios::ctl {

namespace {

namespace pk = proto::kernel;
namespace tasks = proto::scheduler;

constexpr std::uint64_t patience_ns = 2 * ns_per_s;

std::uint64_t since_boot_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * ns_per_s +
         static_cast<std::uint64_t>(now.tv_nsec);
}

/// `root` and all below it but those of `others`, and what is below these: of what two programs
/// have started that attached, each thing is the nearest one's.
std::vector<pid_t> own_tree(pid_t root, const std::multimap<pid_t, pid_t>& children,
                            const std::set<pid_t>& others) {
  std::vector<pid_t> all{root};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto [begin, end] = children.equal_range(all[i]);
    for (auto at = begin; at != end; ++at)
      if (!others.contains(at->second)) all.push_back(at->second);
  }
  return all;
}

}  // namespace

Result<Watcher> Watcher::attach(const Session& session) {
  return Watcher(TRY(Operator::attach(session)));
}

Result<Snapshot> Watcher::look() {
  auto seen = ask_all();
  if (!seen && seen.error().code() == Code::peer_closed)
    return error(Code::unreachable, "the instance is gone: " + seen.error().message());
  return seen;
}

Result<Snapshot> Watcher::ask_all() {
  Snapshot out;
  out.instance = TRY(attached_->kernel().call<pk::InstanceInfo>({})).reply;
  const std::vector<ListedJob> jobs = TRY(list_jobs(*attached_));
  for (const ListedJob& job : jobs) out.jobs.push_back({job, path_of(job, jobs), {}});
  TRY(look_at_processes(out));

  const auto ask = [&](const char* server, std::uint64_t version, auto question) -> Result<void> {
    std::unique_ptr<Client>& client = clients_[server];
    if (!attached_->port(server)) return {};
    if (client == nullptr) client = TRY(attached_->client(server, version));
    if (const Result<void> answer = question(*client); !answer)
      out.silent[server] = answer.error().message();
    return {};
  };
  // Each has its own two seconds: who hangs makes nobody else silent.
  TRY(ask(proto::supervisor::Protocol::name, proto::supervisor::Protocol::version,
          [&](Client& supervisor) -> Result<void> {
            out.servers = TRY(list_servers(supervisor, Deadline::after(patience_ns)));
            return {};
          }));
  TRY(ask(tasks::Protocol::name, tasks::Protocol::version,
          [&](Client& scheduler) { return ask_scheduler(out, scheduler); }));
  TRY(ask(proto::storage::Protocol::name, proto::storage::Protocol::version,
          [&](Client& storage) -> Result<void> {
            out.storage = TRY(storage.call<proto::storage::Info>({}, Deadline::after(patience_ns)));
            return {};
          }));
  out.at_ns = now_ns();
  return out;
}

/// All or nothing: half of it would look like an end of the rest.
Result<void> Watcher::ask_scheduler(Snapshot& out, Client& scheduler) {
  const Deadline deadline = Deadline::after(patience_ns);
  std::vector<ListedDevice> devices = TRY(list_devices(scheduler, deadline));
  std::map<std::uint64_t, tasks::LoadNext::Reply> loads;
  for (std::uint64_t after = 0; loads.size() < max_listed;) {
    const auto load = TRY(scheduler.call<tasks::LoadNext>({after}, deadline));
    if (load.job_id == 0) break;
    loads[after = load.job_id] = load;
  }
  for (SeenJob& job : out.jobs)
    if (const auto at = loads.find(job.record.job_id); at != loads.end()) job.load = at->second;
  out.devices = std::move(devices);
  out.knows_tasks = true;
  return {};
}

Result<void> Watcher::look_at_processes(Snapshot& out) {
  const auto processes = TRY(list_processes(*attached_));
  out.boot_ns = since_boot_ns();
  out.knows_processes = check_namespace(attached_->kernel()).has_value();
  if (!out.knows_processes) return {};
  const auto children = children_by_parent();
  std::set<pid_t> known;
  for (const pk::ProcessRecord& process : processes) known.insert(static_cast<pid_t>(process.pid));
  std::map<pid_t, SeenProcess> seen;
  for (const pk::ProcessRecord& process : processes) {
    const auto pid = static_cast<pid_t>(process.pid);
    const auto all =
        process.outside != 0 ? own_tree(pid, children, known) : std::vector<pid_t>{pid};
    for (const pid_t one : all) seen.try_emplace(one, one, process.job_id, use_of_process(one));
  }
  for (const auto& [pid, process] : seen) out.processes.push_back(process);
  return {};
}

}  // namespace aios::ctl
