// The calls on jobs, processes and spawners.
#include <signal.h>

#include <algorithm>

#include "kernel/calls.hpp"

namespace aios::kernel {

namespace {

Result<void> require_name(const Name& name) {
  return require(name.valid() && is_name(name.view()),
                 "a name has 1 to 31 letters, digits, '.', '_' and '-', and not only dots");
}

Result<SpawnImage> open_image(std::uint32_t profile, const proto::Text<512>& path) {
  TRY(require(profile < proto::sandbox::profile_names.size(), "no such profile"));
  TRY(require(path.valid() && path.view().starts_with('/'),
              "an image is named by an absolute path"));
  const std::string text(path.view());
  Fd fd = TRY(sys::open_image(text));
  return SpawnImage{static_cast<wire::Profile>(profile), text, std::move(fd)};
}

/// "a\0b\0" and zeros to the end.
Result<std::vector<std::string>> parse_arguments(const char (&bytes)[512]) {
  std::vector<std::string> arguments;
  std::string_view rest(bytes, sizeof bytes);
  while (!rest.empty() && rest.front() != '\0') {
    const auto end = rest.find('\0');
    TRY(require(end != rest.npos, "the last argument does not end"));
    TRY(require(arguments.size() < limits::spawn_arguments, "more arguments than allowed"));
    arguments.emplace_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  TRY(require(rest.find_first_not_of('\0') == rest.npos, "an argument is empty"));
  return arguments;
}

wire::ProcessRecord record_of(const Process& process) {
  const auto& [code, signalled] = process.exit_status();
  return wire::ProcessRecord(process.id(), process.job()->id(), process.detail(), process.epoch,
                             process.started_ns, process.region_bytes, process.handles.size(),
                             process.link_count(), process.is_outside(), !process.alive(), code,
                             signalled, process.namespaces, process.uid, process.sandbox(),
                             process.name(), process.job()->name());
}

wire::JobRecord record_of(const Job& job) {
  const auto* group = job.limiting_group();
  const cgroup::Usage usage = job.group.usage();
  return wire::JobRecord(job.id(), job.parent_id(), job.name(), job.quota(), job.used(),
                         job.killed(), group == nullptr ? 0 : group->enforced(), job.owner, 0,
                         usage.memory_bytes, usage.cpu_ns, usage.memory_kills, usage.refused_forks);
}

}  // namespace

KERNEL_CALL(JobCreate, Calls::) {
  TRY(require_name(request.name));
  const auto parent = TRY(caller.process.handles.get<Job>(request.parent, rights::manage));
  auto job = TRY(instance_.make_job(*parent, request.name, request.quota));
  return wire::JobCreate::Reply{TRY(give(caller.process, std::move(job)))};
}

KERNEL_CALL(JobKill, Calls::) {
  const auto job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  TRY(require(!job->is_root(), "the root job ends by instance_shutdown"));
  instance_.kill_job(*job);
  return wire::JobKill::Reply{};
}

KERNEL_CALL(JobInfo, Calls::) {
  return record_of(*TRY(caller.process.handles.get<Job>(request.job, rights::info)));
}

KERNEL_CALL(JobNext, Calls::) {
  const auto job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  const Job* next = job->next(request.after);
  return next == nullptr ? wire::JobRecord{} : record_of(*next);
}

template <class Request>
Result<wire::ProcessSpawn::Reply> Calls::spawn_for(Process& process, const Request& request,
                                                   Instance::SpawnRequest spawn) {
  TRY(require_name(request.name));
  TRY(require(request.handle_count <= wire::max_spawn_handles, "more handles than a spawn takes"));
  spawn.name = request.name;
  spawn.arguments = TRY(parse_arguments(request.arguments));
  for (std::size_t i = 0; i < request.handle_count; ++i) {
    const wire::SpawnHandle& entry = request.handles[i];
    TRY(require_label(entry.label));
    spawn.startup.emplace_back(entry.label.view(),
                               TRY(sendable(process, entry.handle, entry.use, entry.grant)));
  }
  TRY(process.handles.can_install(1));
  const auto child = TRY(instance_.spawn(std::move(spawn)));
  const auto handle = give(process, child);
  if (!handle) instance_.kill(*child);
  return wire::ProcessSpawn::Reply{TRY(Result<Handle>(handle)), child->id(), child->detail()};
}

KERNEL_CALL(ProcessSpawn, Calls::) {
  if (caller.process.role == wire::PeerRole::program)
    return error(Code::denied, "only operators and AIOS itself start programs");
  auto job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  const SpawnImage image = TRY(open_image(request.profile, request.image));
  return spawn_for(caller.process, request, {image, std::move(job)});
}

KERNEL_CALL(ProcessSignal, Calls::) {
  static constexpr auto allowed = {SIGKILL, SIGTERM, SIGABRT, SIGSTOP, SIGCONT, SIGINT};
  const auto number = static_cast<int>(request.signal_number);
  TRY(require(std::ranges::count(allowed, number) == 1, "this signal cannot be sent"));
  const auto target = TRY(caller.process.handles.get<Process>(request.process, rights::manage));
  if (!target->alive()) return error(Code::not_found, "the process has ended");
  if (!target->is_outside())
    TRY(sys::signal_process(target->pidfd, number));
  else if (number == SIGKILL)
    instance_.kill(*target);
  else
    return error(Code::not_supported, "an outside program can only be cut off, by SIGKILL");
  return wire::ProcessSignal::Reply{};
}

KERNEL_CALL(ProcessInfo, Calls::) {
  return record_of(*TRY(caller.process.handles.get<Process>(request.process, rights::info)));
}

KERNEL_CALL(ProcessNext, Calls::) {
  const auto job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  const auto& all = instance_.registry.processes;
  for (auto next = all.upper_bound(request.after); next != all.end(); ++next)
    if (next->second->joined() && job->contains(*next->second->job()))
      return record_of(*next->second);
  return wire::ProcessRecord{};
}

KERNEL_CALL(ProcessOpen, Calls::) {
  const auto job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  const auto found = instance_.registry.processes.find(request.process_id);
  if (found == instance_.registry.processes.end() || !found->second->joined() ||
      !job->contains(*found->second->job()))
    return error(Code::not_found, "no such process in this job");
  constexpr std::uint32_t mask = rights::info | rights::wait | rights::manage;
  return wire::ProcessOpen::Reply{
      TRY(caller.process.handles.install(Reference(found->second, mask, mask)))};
}

KERNEL_CALL(SpawnerCreate, Calls::) {
  TRY(require_name(request.name));
  const auto job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  if (!job->is_root()) return error(Code::denied, "a spawner is made with the root job");
  auto spawner = std::make_shared<Spawner>(instance_.registry.next_id++, request.name,
                                           TRY(open_image(request.profile, request.image)));
  return wire::SpawnerCreate::Reply{TRY(give(caller.process, std::move(spawner)))};
}

KERNEL_CALL(SpawnerSpawn, Calls::) {
  const auto spawner = TRY(caller.process.handles.get<Spawner>(request.spawner, rights::spawn));
  const auto tenant = TRY(caller.process.handles.get<Job>(request.tenant, rights::act));
  if (tenant->killed()) return error(Code::denied, "the tenant's job was killed");
  auto job = TRY(instance_.child_job(*tenant, Name::from(wire::contexts_job)));
  return spawn_for(caller.process, request, {spawner->image, std::move(job)});
}

}  // namespace aios::kernel
