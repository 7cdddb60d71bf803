#include "tests/fault/system.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace aios::fault {

namespace pk = proto::kernel;

namespace {

std::string manifest_of(const std::string& backend) {
  const std::string storage_arguments =
      backend.empty() ? "" : "arguments = [\"--backend\", \"" + backend + "\"]\n";
  return R"(
[instance]
heartbeat_ms = 250
missed_heartbeats = 8
stop_timeout_ms = 100
restart = { count = 100000, window_ms = 1000, first_delay_ms = 20, max_delay_ms = 100 }

[server.storage]
binary = "aios-storage"
publish = true
)" + storage_arguments +
         R"(
[server.cpu]
binary = "aios-cpu"
publish = true
spawner = { binary = "aios-cpu-context", profile = "context", label = "spawner:context" }

[server.scheduler]
binary = "aios-scheduler"
routes = ["cpu"]
publish = true

[server.mapreduce]
binary = "aios-mapreduce"
routes = ["scheduler", "storage"]
publish = true

[server.echo]
binary = "aios-echo"
publish = true

[server.m-storage]
binary = "aios-storage"
arguments = ["--state", "MUTANT"]
publish = true

[server.m-scheduler]
binary = "aios-scheduler"
routes = ["cpu"]
publish = true

[server.m-mapreduce]
binary = "aios-mapreduce"
routes = ["scheduler", "storage"]
publish = true

[server.m-echo]
binary = "aios-echo"
publish = true
)";
}

/// A server that is not given up is started again in less than this.
constexpr std::uint64_t bait_birth_ns = 2 * ns_per_s;

Result<Fd> open_pidfd(pid_t pid) {
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd.valid()) return errno_error("watch process " + std::to_string(pid), errno);
  return fd;
}

}  // namespace

bool Target::alive() const {
  return !await_end({1});
}

bool Target::await_end(Deadline deadline) const {
  pollfd ended{pidfd.get(), POLLIN, 0};
  return ::poll(&ended, 1, deadline.poll_timeout_ms()) == 1;
}

Result<Target> target_of(const std::string& name, pid_t pid) {
  Fd pidfd = TRY(open_pidfd(pid));
  return Target{name, pid, std::move(pidfd)};
}

Result<std::unique_ptr<System>> System::boot(const std::string& backend) {
  std::unique_ptr<System> system(new System);
  std::string manifest = manifest_of(backend);
  const std::string_view mark = "MUTANT";
  // A folder of its own: what the changed storage does to its files is no business of the others.
  std::string folder = (std::filesystem::temp_directory_path() / "aios-bait-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return errno_error("make folder " + folder, errno);
  system->bait_folder_ = folder;
  manifest.replace(manifest.find(mark), mark.size(), folder);
  system->instance_ = TRY(test::TestInstance::boot_running(manifest));
  system->prober_ = TRY(system->instance_->attach());
  system->bait_watch_ =
      TRY(system->instance_->attach({.job_name = std::string(bait_job), .quota = {}}));
  TRY(system->note_all());
  return system;
}

System::~System() {
  instance_.reset();
  std::error_code failure;
  if (!bait_folder_.empty()) std::filesystem::remove_all(bait_folder_, failure);
}

void System::forget_bait_storage() {
  std::error_code failure;
  std::filesystem::remove_all(bait_folder_ + "/storage", failure);
}

Result<void> System::renew_bait(const std::string& name) {
  // Held, so that it neither writes while its folder goes nor leaves half of a new one behind. One
  // that ended at that very moment has a successor; one that was given up has none.
  const Deadline end = Deadline::after(bait_birth_ns);
  for (bool held = false; !held && !end.passed();) {
    const auto process = server(name);
    held = process && ::kill(process->pid, SIGSTOP) == 0;
    if (name == "m-storage") forget_bait_storage();
    held = held && process->alive();
    if (!held) ::usleep(5'000);
  }
  TRY(instance_->restart(name));
  return {};
}

Result<Target> System::server(std::string_view name) {
  for (const auto& record : TRY(instance_->processes()))
    if (record.outside == 0 && record.exited == 0 && record.name.view() == name)
      return target_of(std::string(name), static_cast<pid_t>(record.pid));
  return error(Code::not_found, "no process is " + std::string(name) + " now");
}

Result<std::vector<pk::ProcessRecord>> System::processes_of(test::Visitor& visitor, Handle job) {
  std::vector<pk::ProcessRecord> all;
  for (std::uint64_t after = 0;;) {
    const auto record = TRY(visitor.kernel().call<pk::ProcessNext>({job, after})).reply;
    if (record.process_id == 0) return all;
    after = record.process_id;
    if (record.exited == 0 && record.name.view() == name_of(Part::contexts)) all.push_back(record);
  }
}

Result<Target> System::context(bool of_bait, std::uint64_t pick) {
  auto found = TRY(processes_of(*bait_watch_, bait_watch_->kernel().job()));
  if (!of_bait) {
    const auto bait = std::move(found);
    const Handle root = TRY(prober_->kernel().startup("root")).handle;
    found = TRY(processes_of(*prober_, root));
    std::erase_if(found, [&](const auto& one) {
      return std::ranges::any_of(bait,
                                 [&](const auto& b) { return b.process_id == one.process_id; });
    });
  }
  if (found.empty()) return error(Code::not_found, "there is no context now");
  return target_of(std::string(name_of(Part::contexts)),
                   static_cast<pid_t>(found[pick % found.size()].pid));
}

Result<std::uint64_t> System::await_serving(const std::string& name, Deadline deadline) {
  auto& client = clients_[name];
  if (client == nullptr) {
    const StartupHandle port = TRY(prober_->kernel().startup(name));
    // Version 0 exists in no protocol: such a connection may make null calls only.
    client = std::make_unique<Client>(prober_->kernel(), nullptr, port.handle, 0, name);
  }
  for (;;) {
    const auto reply = client->call<proto::Null>({}, deadline);
    if (reply) return now_ns();
    if (reply.error().code() != Code::peer_closed || deadline.passed())
      return std::unexpected(reply.error());
  }
}

Result<void> System::note(std::string_view name) {
  noted_[std::string(name)] = TRY(server(name)).pid;
  return {};
}

Result<void> System::note_all() {
  for (std::size_t i = 0; i + 1 < part_count; ++i) TRY(note(part_names[i]));
  return {};
}

std::optional<Part> System::unexpected_end(Parts harmed) {
  for (std::size_t i = 0; i + 1 < part_count; ++i) {
    if ((harmed >> i & 1) != 0) continue;
    const auto now = server(part_names[i]);
    if (!now || now->pid != noted_[std::string(part_names[i])]) return static_cast<Part>(i);
  }
  return std::nullopt;
}

Result<std::string> System::last_end(std::string_view name) {
  const auto client = TRY(prober_->client<proto::supervisor::Protocol>());
  std::uint64_t count = 1;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto server = TRY(client->call<proto::supervisor::Server>({i}, test::patience()));
    if (server.server.view() == name) return std::string(server.last_end.view());
    count = server.count;
  }
  return error(Code::not_found, "there is no server called " + std::string(name));
}

bool System::kernel_lives() const {
  return ::kill(instance_->kernel_pid(), 0) == 0 && instance_->info().has_value();
}

void System::forget_clients() {
  clients_.clear();
  prober_.reset();
  bait_watch_.reset();
}

Result<Holding> holding_of(test::TestInstance& instance) {
  const auto info = TRY(instance.info());
  std::error_code failure;
  std::uint64_t descriptors = 0;
  for (auto entry = std::filesystem::directory_iterator(
           "/proc/" + std::to_string(instance.kernel_pid()) + "/fd", failure);
       !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure))
    ++descriptors;
  return Holding{info.processes, info.links, info.regions, info.region_bytes, descriptors};
}

std::string links_of(test::TestInstance& instance) {
  std::string text;
  if (const auto links = instance.links())
    for (const auto& link : *links)
      text += std::to_string(link.client_process_id) + " " + std::string(link.client_name.view()) +
              " > " + std::to_string(link.server_process_id) + " " +
              std::string(link.port_name.view()) + " (" + std::to_string(link.state) + "), ";
  return text;
}

std::string excess_of(const Holding& now, const Holding& before) {
  std::string text;
  const auto check = [&text](const char* what, std::uint64_t found, std::uint64_t most) {
    if (found > most)
      text += std::string(what) + " " + std::to_string(found) + ", at most " +
              std::to_string(most) + "; ";
  };
  check("processes", now.processes, before.processes);
  check("links", now.links, before.links);
  check("regions", now.regions, before.regions);
  check("bytes of regions", now.region_bytes, before.region_bytes);
  check("descriptors of the kernel", now.kernel_descriptors, before.kernel_descriptors);
  return text;
}

}  // namespace aios::fault
