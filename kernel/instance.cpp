#include "kernel/instance.hpp"

#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>

#include "abi/runtime/log.hpp"
#include "abi/runtime/sandbox/namespaces.hpp"
#include "abi/runtime/socket.hpp"

namespace aios::kernel {

namespace wire = proto::kernel;

Instance::Instance(Settings options, const Fd& epoll)
    : settings(std::move(options)),
      namespaces_work(sys::can_make_namespaces()),
      started_ns(now_ns()),
      own_uid(::geteuid()),
      epoll_(epoll),
      null_(sys::open_null()) {
  const auto memory_bytes = std::uint64_t(::sysconf(_SC_PHYS_PAGES)) * proto::page_bytes;
  const Quota quota{memory_bytes / 100 * limits::memory_percent, limits::processes, limits::handles,
                    limits::links, 0};
  root = std::make_shared<Job>(registry.next_id++, nullptr, Name::from("root"), quota);
  root->owner = own_uid;
}

Instance::~Instance() {
  const Deadline deadline = Deadline::after(limits::reap_timeout_ns);
  supervisor_.reset();
  for (const auto& [id, process] : registry.processes)
    if (!process->is_outside()) (void)sys::signal_process(process->pidfd, SIGKILL);
  while (!registry.processes.empty()) {
    const auto process = registry.processes.begin()->second;
    if (!process->is_outside() && !sys::wait_exit(process->pidfd, deadline))
      log_line("process " + std::to_string(process->pid) + " does not end");
    bury(process);
  }
  for (const auto& [id, helper] : helpers_) (void)sys::wait_exit(helper.first.pidfd, deadline);
  // Objects leave the registry as they end, so they must end before it.
  helpers_.clear();
  published.clear();
  root->mark_killed();
}

Result<std::shared_ptr<Process>> Instance::spawn(SpawnRequest request) {
  const auto process =
      std::make_shared<Process>(registry, registry.next_id++, Process::Kind::child, request.name);
  TRY(process->join(request.job));
  for (auto& [label, reference] : request.startup)
    TRY(process->give(label, std::move(reference), false));
  for (const auto& [label, kept] : request.job->kept())
    TRY(process->give(label, kept.first.copy(), true));
  TRY(launch(*process, request));
  if (auto watched = watch(process); !watched) {
    (void)sys::signal_process(process->pidfd, SIGKILL);
    (void)sys::wait_exit(process->pidfd, Deadline::after(limits::reap_timeout_ns));
    bury(process);
    return std::unexpected(std::move(watched).error());
  }
  return process;
}

Result<void> Instance::launch(Process& process, SpawnRequest& request) {
  const std::string name(process.name().view());
  const uid_t owner = request.job->owner;  // contexts of one fill no log of another
  const std::string log_name =
      name + (owner == own_uid ? "" : "-" + std::to_string(owner)) + ".log";
  const Fd log = TRY(sys::open_log(settings.state / "logs" / log_name, limits::log_bytes));
  auto [own_socket, its_socket] = TRY(make_socket_pair());
  std::vector<char*> argv{const_cast<char*>(request.image.path.c_str())};
  for (std::string& argument : request.arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const auto profile = request.image.profile;
  std::string name_is = "AIOS_NAME=" + name;
  std::string profile_is = "AIOS_PROFILE=" + std::string(proto::sandbox::profile_name(profile));
  char* const envp[] = {name_is.data(), profile_is.data(), nullptr};
  process.namespaces = profile != proto::kernel::Profile::open && namespaces_work;
  // What is nobody's work, or root's, is nobody's outside of its namespaces.
  const bool keeps = own_uid != 0 || (proto::sandbox::keeps_user(profile) && owner == 0);
  process.uid = keeps ? own_uid : owner != 0 ? owner : sandbox::unprivileged_id;
  sys::Child child =
      TRY(sys::spawn({its_socket.get(), log.get(), null_.get(), request.image.fd.get(), argv.data(),
                      envp, process.namespaces, process.uid, request.job->limiting_group()}));
  process.pid = child.pid;
  process.pidfd = std::move(child.pidfd);
  process.socket = std::move(own_socket);
  process.epoch = request.job->next_epoch(name);
  return {};
}

Result<void> Instance::attach(Fd socket) {
  SocketPeer peer = TRY(identify_peer(socket));
  const auto process = std::make_shared<Process>(registry, registry.next_id++,
                                                 Process::Kind::outside, Name::from("outside"));
  const bool may_all = (peer.uid == own_uid || peer.uid == 0) && !peer.confined;
  if (!may_all && !peer.confined && configuration.open_to_users == 0)
    return error(Code::denied, "this instance serves uid " + std::to_string(own_uid) + " only");
  std::vector<std::shared_ptr<Process>> unnamed;
  for (const auto& [id, other] : registry.processes)
    if (!other->joined() && other->uid == peer.uid) unnamed.push_back(other);
  if (unnamed.size() >= limits::unnamed_connections) bury(unnamed.front());
  peers_have_pidfds = peer.pidfd.valid();
  process->pid = peer.pid;
  process->uid = peer.uid;
  process->role = may_all ? wire::PeerRole::operator_program : wire::PeerRole::program;
  process->pidfd = std::move(peer.pidfd);
  process->socket = std::move(socket);
  process->epoch = process->id();
  return watch(process);
}

Result<void> Instance::watch(const std::shared_ptr<Process>& process) {
  process->started_ns = now_ns();
  registry.processes.emplace(process->id(), process);
  process->socket_refuses_files = refuse_descriptors(process->socket);
  auto watched = sys::watch(epoll_, process->socket, EPOLLIN | EPOLLRDHUP, process->id());
  if (watched && process->pidfd.valid())
    watched = sys::watch(epoll_, process->pidfd, EPOLLIN, process->id() | pidfd_bit);
  if (!watched && process->is_outside()) bury(process);
  return watched;
}

void Instance::listen_for_calls(Process& process, bool wanted) {
  const std::uint32_t events = EPOLLRDHUP | (wanted ? EPOLLIN : 0u);
  if (!sys::watch(epoll_, process.socket, events, process.id())) disconnect(process);
}

Result<std::shared_ptr<Job>> Instance::child_job(Job& parent, const Name& name, const Quota& quota,
                                                 bool for_programs) {
  if (auto found = parent.find_child(name.view())) return found;
  return make_job(parent, name, quota, for_programs);
}

Result<std::shared_ptr<Job>> Instance::make_job(Job& parent, const Name& name, const Quota& quota,
                                                bool for_programs) {
  auto job = TRY(parent.make_child(registry.next_id++, name, quota));
  const cgroup::Limits asked{quota.memory_bytes, quota.cpu_millis, quota.processes};
  const bool grouped = asked != cgroup::Limits{} || (for_programs && parent.limiting_group());
  if (!settings.control_groups || !grouped) return job;
  if (!groups) groups.emplace(cgroup::Tree::create());
  job->group =
      TRY(groups->make(parent.limiting_group(), "job-" + std::to_string(job->id()), asked));
  return job;
}

void Instance::remove_groups() {
  const auto folders = groups ? groups->take_condemned() : std::vector<std::string>();
  if (folders.empty()) return;
  auto child = sys::in_child(-1, [&folders] { return cgroup::remove(folders) ? 0 : 1; });
  // What stays is removed with the instance.
  if (child) add_helper(std::move(*child), [](const sys::ExitStatus&) {});
}

Result<void> Instance::enter(Process& process, const wire::Hello::Request& request) {
  const bool may_all = process.role == wire::PeerRole::operator_program;
  auto job =
      TRY(child_job(*root, Name::from("user:" + std::to_string(process.uid)),
                    may_all ? Quota{.links = limits::links_per_user} : configuration.user_quota));
  job->owner = process.uid;
  if (!request.job_name.view().empty()) {
    job = TRY(child_job(*job, request.job_name, request.quota, true));
    job->ends_with_outside = true;
  }
  // Root and own job are given, too. Checked first, so that a refused hello can be repeated.
  TRY(job->can_charge(Job::handles, 2 + published.size() + job->kept().size()));
  if (const auto* group = job->limiting_group(); group != nullptr && request.confine == 1) {
    if (process.pid == 0) return error(Code::not_supported, "the kernel cannot see this process");
    TRY(group->add(process.pid, cgroup::Group::Part::programs));
  }
  TRY(process.join(job));
  for (const auto& [label, port] : published) TRY(process.give(label, port.copy(), false));
  constexpr std::uint32_t root_use = rights::info | rights::manage | rights::wait;
  if (may_all) TRY(process.give("root", Reference(root, root_use, 0), false));
  for (const auto& [label, kept] : job->kept()) TRY(process.give(label, kept.first.copy(), true));
  return {};
}

void Instance::kill(Process& process) {
  if (process.is_outside())
    bury(process.shared_from_this());
  else if (process.alive())
    (void)sys::signal_process(process.pidfd, SIGKILL);
}

void Instance::kill_job(Job& job) {
  const auto self = job.shared_from_this();
  job.mark_killed();
  std::vector<std::shared_ptr<Process>> victims;
  for (const auto& [id, process] : registry.processes)
    if (process->joined() && job.contains(*process->job())) victims.push_back(process);
  for (const auto& process : victims) kill(*process);
}

void Instance::disconnect(Process& process) {
  kill(process);
  sys::unwatch(epoll_, process.socket);
  process.close_socket();
}

void Instance::bury(const std::shared_ptr<Process>& process) {
  if (!process->alive()) return;
  sys::ExitStatus status;
  if (!process->is_outside()) {
    // Before it is reaped its pid, and so its group, cannot belong to anyone else.
    ::kill(-process->pid, SIGKILL);
    sys::reap(process->pidfd, status);
  }
  sys::unwatch(epoll_, process->socket);
  sys::unwatch(epoll_, process->pidfd);
  registry.processes.erase(process->id());
  process->die(status);
  if (const auto& job = process->job(); job && job->ends_with_outside && !job->killed()) {
    const auto stays = [&job](const auto& entry) {
      return entry.second->is_outside() && entry.second->job() == job;
    };
    if (process->is_outside() && std::ranges::none_of(registry.processes, stays)) kill_job(*job);
  }
  if (process == supervisor_) on_supervisor_exit(status);
}

Result<void> Instance::start_supervisor() {
  Fd fd = TRY(sys::open_image(settings.supervisor));
  const SpawnImage image{proto::kernel::Profile::supervisor, settings.supervisor, std::move(fd)};
  SpawnRequest request{image, root, Name::from("supervisor"), settings.supervisor_arguments};
  request.startup.emplace_back("root", Reference(root, rights::all, rights::all));
  supervisor_ = TRY(spawn(std::move(request)));
  return {};
}

void Instance::on_supervisor_exit(const sys::ExitStatus& status) {
  supervisor_.reset();
  if (shutdown_deadline_) {
    finished_ = 0;
    return;
  }
  const std::string end = (status.signalled ? "was killed by signal " : "exited with code ") +
                          std::to_string(status.code);
  const std::string see = "; see " + (settings.state / "logs" / "supervisor.log").string();
  const std::uint64_t death_ns = now_ns();
  supervisor_deaths_ns_.push_back(death_ns);
  while (death_ns - supervisor_deaths_ns_.front() > limits::restart_window_ns)
    supervisor_deaths_ns_.pop_front();
  finished_ = 1;
  // The supervisor says with it that the manifest is at fault: no restart would help.
  constexpr int configuration_error = 78;
  if (!status.signalled && status.code == configuration_error)
    return log_line("the supervisor found an error in the configuration" + see);
  if (supervisor_deaths_ns_.size() >= limits::restarts_in_window)
    return log_line("the supervisor " + end + ", too often in a minute" + see);
  log_line("the supervisor " + end + "; restarting it");
  if (auto started = start_supervisor(); !started)
    return log_line("cannot restart the supervisor: " + started.error().to_string());
  ++supervisor_restarts;
  finished_.reset();
}

void Instance::begin_shutdown() {
  if (shutdown_deadline_ || supervisor_ == nullptr) return;
  log_line("shutting down");
  shutdown_deadline_ = Deadline::after(configuration.shutdown_timeout_ns);
  root->standing = signal::shutdown;
  root->raise(signal::shutdown);
}

void Instance::hurry_shutdown() {
  log_line("the supervisor has not ended in time, or a second signal came: killing everything");
  shutdown_deadline_ = Deadline::never();
  if (supervisor_) kill(*supervisor_);
}

void Instance::add_helper(sys::Child child, HelperEnd end) {
  const std::uint64_t id = registry.next_id++;
  (void)sys::watch(epoll_, child.pidfd, EPOLLIN, id | pidfd_bit);
  helpers_.emplace(id, std::pair(std::move(child), std::move(end)));
}

void Instance::end_helper(std::uint64_t id) {
  const auto helper = helpers_.extract(id);
  if (!helper) return;
  sys::ExitStatus status;
  sys::reap(helper.mapped().first.pidfd, status);
  helper.mapped().second(status);
}

}  // namespace aios::kernel
