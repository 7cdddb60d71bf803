#include "kernel/instance.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "abi/runtime/log.hpp"
#include "kernel/limits.hpp"

namespace aios::kernel {

using proto::kernel::Profile;

namespace {

/// With this code the supervisor says that the manifest is at fault: no restart would help.
constexpr int configuration_error = 78;

Quota root_quota() {
  return {sys::memory_bytes() / 100 * limits::memory_percent, limits::processes, limits::handles,
          limits::links, 0};
}

std::string describe(const sys::ExitStatus& status) {
  return (status.signalled ? "was killed by signal " : "exited with code ") +
         std::to_string(status.code);
}

}  // namespace

Instance::Instance(Settings settings, Watcher& watcher)
    : namespaces_work(sys::can_make_namespaces()),
      started_ns(now_ns()),
      settings_(std::move(settings)),
      watcher_(watcher),
      null_(sys::open_null()),
      uid_(::geteuid()) {
  root = std::make_shared<Job>(registry.next_id++, nullptr, Name::from("root"), root_quota());
}

Instance::~Instance() {
  // Objects leave the registry as they end, so it must outlive them.
  supervisor_.reset();
  published_.clear();
  registry.processes.clear();
  root->mark_killed();
}

// ---- processes ------------------------------------------------------------------------------

Result<std::shared_ptr<Process>> Instance::spawn(SpawnRequest request) {
  const auto process =
      std::make_shared<Process>(registry, registry.next_id++, Process::Kind::child, request.name);
  TRY(process->join(request.job));
  for (StartupReference& entry : request.startup)
    TRY(process->give(entry.label, std::move(entry.reference), false));
  for (const auto& [label, kept] : request.job->kept())
    TRY(process->give(label, Reference(kept.object(), kept.use, kept.grant), true));
  TRY(launch(*process, request));
  registry.processes.emplace(process->id(), process);
  if (auto watched = watcher_.watch(*process); !watched) {
    disconnect(*process);
    sys::wait_exit(process->pidfd, Deadline::after(limits::reap_timeout_ns));
    bury(process);
    return std::unexpected(std::move(watched).error());
  }
  return process;
}

Result<void> Instance::launch(Process& process, SpawnRequest& request) {
  const std::string name(process.name().view());
  const Fd log = TRY(sys::open_log(settings_.state / "logs" / (name + ".log"), limits::log_bytes));
  auto sockets = TRY(sys::make_socket_pair());
  std::vector<char*> argv{request.image.data()};
  for (std::string& argument : request.arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::string environment = "AIOS_NAME=" + name;
  char* const envp[] = {environment.data(), nullptr};
  const bool context = request.profile == Profile::context;
  process.namespaces = context && namespaces_work;
  sys::Child child = TRY(sys::spawn({.socket_fd = sockets.second.get(),
                                     .log_fd = log.get(),
                                     .null_fd = null_.get(),
                                     .image_fd = request.image_fd->get(),
                                     .argv = argv.data(),
                                     .envp = envp,
                                     .namespaces = process.namespaces,
                                     .limited = context}));
  sys::refuse_descriptors(sockets.first);
  process.pid = child.pid;
  process.uid = uid_;
  process.pidfd = std::move(child.pidfd);
  process.socket = std::move(sockets.first);
  process.started_ns = now_ns();
  process.epoch = request.job->next_epoch(name);
  return {};
}

Result<void> Instance::attach(Fd socket) {
  sys::Peer peer = TRY(sys::identify(socket));
  if (peer.uid != uid_)
    return error(Code::denied, "this instance belongs to uid " + std::to_string(uid_));
  drop_oldest_unnamed();
  const auto process = std::make_shared<Process>(registry, registry.next_id++,
                                                 Process::Kind::outside, Name::from("outside"));
  sys::refuse_descriptors(socket);
  process->pid = peer.pid;
  process->uid = peer.uid;
  peers_have_pidfds = peer.pidfd.valid();
  process->pidfd = std::move(peer.pidfd);
  process->socket = std::move(socket);
  process->started_ns = now_ns();
  process->epoch = process->id();
  TRY(watcher_.watch(*process));
  registry.processes.emplace(process->id(), process);
  return {};
}

void Instance::drop_oldest_unnamed() {
  std::size_t unnamed = 0;
  std::shared_ptr<Process> oldest;
  for (const auto& [id, process] : registry.processes) {
    if (process->joined()) continue;
    if (oldest == nullptr) oldest = process;
    ++unnamed;
  }
  if (unnamed >= limits::unnamed_connections) bury(oldest);
}

Result<void> Instance::enter(Process& process, const Name& job_name, const Quota& quota) {
  const Name user_name = Name::from("user:" + std::to_string(process.uid));
  auto job = root->find_child(user_name.view());
  if (job == nullptr)
    job = TRY(root->make_child(registry.next_id++, user_name, {.links = limits::links_per_user}));
  if (!job_name.view().empty()) {
    auto child = job->find_child(job_name.view());
    if (child == nullptr) {
      child = TRY(job->make_child(registry.next_id++, job_name, quota));
      child->ends_with_outside = true;
    }
    job = std::move(child);
  }
  // Checked before it joins, so that a refused hello can be repeated.
  const auto startup_count = static_cast<std::uint32_t>(2 + published_.size() + job->kept().size());
  TRY(job->can_charge(Resource::handles, startup_count));
  TRY(process.join(job));
  for (const auto& [label, port] : published_)
    TRY(process.give(label, Reference(port.object(), rights::info | rights::connect, 0), false));
  TRY(process.give("root", Reference(root, rights::info | rights::manage | rights::wait, 0),
                   false));
  for (const auto& [label, kept] : job->kept())
    TRY(process.give(label, Reference(kept.object(), kept.use, kept.grant), true));
  return {};
}

void Instance::kill(Process& process) {
  if (!process.alive()) return;
  if (process.is_outside())
    bury(process.shared_from_this());
  else
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
  if (process.is_outside()) return bury(process.shared_from_this());
  (void)sys::signal_process(process.pidfd, SIGKILL);
  if (!process.socket.valid()) return;
  watcher_.unwatch_socket(process);
  process.socket.reset();
}

void Instance::bury(const std::shared_ptr<Process>& process) {
  if (!process->alive()) return;
  sys::ExitStatus status;
  if (!process->is_outside()) {
    // Before it is reaped its pid, and so its group, cannot belong to anyone else.
    sys::kill_group(process->pid);
    sys::reap(process->pidfd, status);
  }
  watcher_.unwatch(*process);
  registry.processes.erase(process->id());
  process->die(status);
  const auto& job = process->job();
  if (process->is_outside() && process->joined() && job->ends_with_outside && !job->killed()) {
    const bool last = std::none_of(
        registry.processes.begin(), registry.processes.end(), [&job](const auto& entry) {
          return entry.second->is_outside() && entry.second->job() == job;
        });
    if (last) kill_job(*job);
  }
  if (process == supervisor_) on_supervisor_exit(status);
}

// ---- the supervisor and the end -------------------------------------------------------------

Result<void> Instance::start_supervisor() {
  const Fd image = TRY(sys::open_image(settings_.supervisor));
  SpawnRequest request{.job = root,
                       .name = Name::from("supervisor"),
                       .profile = Profile::server,
                       .image = settings_.supervisor,
                       .image_fd = &image,
                       .arguments = settings_.supervisor_arguments,
                       .startup = {}};
  request.startup.push_back({"root", Reference(root, rights::all, rights::all)});
  supervisor_ = TRY(spawn(std::move(request)));
  return {};
}

void Instance::on_supervisor_exit(const sys::ExitStatus& status) {
  supervisor_.reset();
  if (shutdown_deadline_) {
    finished_ = 0;
    return;
  }
  if (!status.signalled && status.code == configuration_error) {
    log_line("the supervisor found an error in the configuration; see " +
             (settings_.state / "logs" / "supervisor.log").string());
    finished_ = 1;
    return;
  }
  const std::uint64_t death_ns = now_ns();
  supervisor_deaths_ns_.push_back(death_ns);
  while (death_ns - supervisor_deaths_ns_.front() > limits::restart_window_ns)
    supervisor_deaths_ns_.pop_front();
  if (supervisor_deaths_ns_.size() >= limits::restarts_in_window) {
    log_line("the supervisor " + describe(status) + ", the " +
             std::to_string(limits::restarts_in_window) + "th time in a minute; giving up; see " +
             (settings_.state / "logs" / "supervisor.log").string());
    finished_ = 1;
    return;
  }
  ++supervisor_restarts;
  log_line("the supervisor " + describe(status) + "; restarting it");
  if (auto started = start_supervisor(); !started) {
    log_line("cannot restart the supervisor: " + started.error().to_string());
    finished_ = 1;
  }
}

void Instance::begin_shutdown() {
  if (supervisor_ == nullptr) {
    finished_ = finished_.value_or(0);
    return;
  }
  if (shutdown_deadline_) return;
  log_line("shutting down");
  shutdown_deadline_ = Deadline::after(limits::shutdown_timeout_ns);
  root->standing = signal::shutdown;
  root->raise(signal::shutdown);
}

void Instance::hurry_shutdown() {
  if (supervisor_ == nullptr) return;
  log_line("the supervisor has not ended in time, or a second signal came: killing everything");
  shutdown_deadline_ = Deadline::never();
  kill(*supervisor_);
}

void Instance::kill_all() {
  const Deadline deadline = Deadline::after(limits::reap_timeout_ns);
  supervisor_.reset();
  root->mark_killed();
  for (const auto& [id, process] : registry.processes)
    if (!process->is_outside()) (void)sys::signal_process(process->pidfd, SIGKILL);
  while (!registry.processes.empty()) {
    const auto process = registry.processes.begin()->second;
    if (!process->is_outside() && !sys::wait_exit(process->pidfd, deadline))
      log_line("process " + std::to_string(process->pid) + " (" +
               std::string(process->name().view()) + ") does not end");
    bury(process);
  }
}

Result<void> Instance::publish(std::string_view label, Reference port) {
  if (const auto found = published_.find(label); found != published_.end()) {
    found->second = std::move(port);
    return {};
  }
  if (published_.size() >= limits::published_ports)
    return error(Code::quota, "as many ports are published as may be");
  published_.emplace(label, std::move(port));
  return {};
}

}  // namespace aios::kernel
