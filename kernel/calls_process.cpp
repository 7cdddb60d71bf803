// The calls on jobs, processes and spawners.
#include <signal.h>

#include <algorithm>
#include <array>

#include "kernel/calls.hpp"
#include "kernel/limits.hpp"
#include "kernel/spawner.hpp"

namespace aios::kernel {

namespace wire = proto::kernel;

namespace {

constexpr std::string_view contexts_job = "contexts";

Result<void> check_name(const Name& name) {
  if (!name.valid() || !is_name(name.view()))
    return error(Code::invalid_argument,
                 "a name has 1 to 31 letters, digits, '.', '_' and '-', and not only dots");
  return {};
}

Result<wire::Profile> check_profile(std::uint32_t profile) {
  if (profile > static_cast<std::uint32_t>(wire::Profile::context))
    return error(Code::invalid_argument, "no such profile");
  return static_cast<wire::Profile>(profile);
}

Result<std::string> check_image(const proto::Text<512>& image) {
  if (!image.valid() || image.view().empty() || image.view().front() != '/')
    return error(Code::invalid_argument, "an image is named by an absolute path");
  return std::string(image.view());
}

/// "a\0b\0" and zeros to the end.
Result<std::vector<std::string>> parse_arguments(const char (&bytes)[512]) {
  std::vector<std::string> arguments;
  std::string_view rest(bytes, sizeof bytes);
  while (!rest.empty() && rest.front() != '\0') {
    const auto end = rest.find('\0');
    if (end == std::string_view::npos)
      return error(Code::invalid_argument, "the last argument does not end");
    if (arguments.size() == limits::spawn_arguments)
      return error(Code::invalid_argument, "more arguments than allowed");
    arguments.emplace_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  if (rest.find_first_not_of('\0') != std::string_view::npos)
    return error(Code::invalid_argument, "an argument is empty");
  return arguments;
}

wire::ProcessRecord record_of(const Process& process) {
  const sys::ExitStatus& status = process.exit_status();
  return {.process_id = process.id(),
          .job_id = process.job()->id(),
          .pid = static_cast<std::uint64_t>(process.pid),
          .epoch = process.epoch,
          .started_ns = process.started_ns,
          .region_bytes = process.region_bytes,
          .handles = process.handles.size(),
          .links = process.link_count(),
          .outside = process.is_outside() ? 1u : 0u,
          .exited = process.alive() ? 0u : 1u,
          .exit_code = status.code,
          .exit_signalled = status.signalled ? 1u : 0u,
          .namespaces = process.namespaces ? 1u : 0u,
          .uid = process.uid,
          .name = process.name(),
          .job_name = process.job()->name()};
}

}  // namespace

// ---- jobs -----------------------------------------------------------------------------------

KERNEL_CALL(JobCreate, Calls::) {
  TRY(check_name(request.name));
  if (request.quota.reserved != 0)
    return error(Code::invalid_argument, "a reserved field is not zero");
  const auto parent = TRY(caller.process.handles.get<Job>(request.parent, rights::manage));
  auto job = TRY(parent->make_child(instance_.registry.next_id++, request.name, request.quota));
  return wire::JobCreate::Reply{TRY(caller.process.handles.install(
      Reference(std::move(job), Job::handle_rights, Job::handle_rights)))};
}

KERNEL_CALL(JobKill, Calls::) {
  const auto job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  if (job->is_root())
    return error(Code::invalid_argument, "the root job ends by instance_shutdown");
  instance_.kill_job(*job);
  return wire::JobKill::Reply{};
}

KERNEL_CALL(JobInfo, Calls::) {
  const auto job = TRY(caller.process.handles.get<Job>(request.job, rights::info));
  return wire::JobInfo::Reply{
      job->id(), job->parent_id(), job->name(), job->quota(), job->used(), job->killed(), 0};
}

// ---- processes ------------------------------------------------------------------------------

Result<std::vector<Instance::StartupReference>> Calls::startup_references(
    Process& process, std::span<const wire::SpawnHandle> handles) {
  std::vector<Instance::StartupReference> references;
  for (const wire::SpawnHandle& entry : handles) {
    if (!entry.label.valid() || entry.label.view().empty())
      return error(Code::invalid_argument, "a label has 1 to 31 characters");
    const Slot* slot = TRY(sendable(process, entry.handle, entry.use, entry.grant));
    const auto& object = slot->reference.object();
    if (object->type() == ObjectType::link)
      return error(Code::wrong_type, "a link cannot be given away");
    references.push_back(
        {std::string(entry.label.view()), Reference(object, entry.use, entry.grant)});
  }
  return references;
}

Result<wire::ProcessSpawn::Reply> Calls::spawn_for(Process& process,
                                                   Instance::SpawnRequest request) {
  TRY(process.handles.can_install(1, 0));
  const auto child = TRY(instance_.spawn(std::move(request)));
  const auto handle =
      process.handles.install(Reference(child, Process::handle_rights, Process::handle_rights));
  if (!handle) {
    instance_.kill(*child);
    return std::unexpected(handle.error());
  }
  return wire::ProcessSpawn::Reply{*handle, child->id(), static_cast<std::uint64_t>(child->pid)};
}

KERNEL_CALL(ProcessSpawn, Calls::) {
  TRY(check_name(request.name));
  if (request.handle_count > wire::max_spawn_handles)
    return error(Code::invalid_argument, "more handles than a spawn takes");
  Instance::SpawnRequest spawn;
  spawn.name = request.name;
  spawn.profile = TRY(check_profile(request.profile));
  spawn.image = TRY(check_image(request.image));
  spawn.arguments = TRY(parse_arguments(request.arguments));
  spawn.job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  spawn.startup = TRY(
      startup_references(caller.process, std::span(request.handles).first(request.handle_count)));
  const Fd image = TRY(sys::open_image(spawn.image));
  spawn.image_fd = &image;
  return spawn_for(caller.process, std::move(spawn));
}

KERNEL_CALL(ProcessSignal, Calls::) {
  static constexpr std::array allowed = {SIGKILL, SIGTERM, SIGABRT, SIGSTOP, SIGCONT, SIGINT};
  const auto number = static_cast<int>(request.signal_number);
  if (std::find(allowed.begin(), allowed.end(), number) == allowed.end())
    return error(Code::invalid_argument, "this signal cannot be sent");
  const auto target = TRY(caller.process.handles.get<Process>(request.process, rights::manage));
  if (!target->alive()) return error(Code::not_found, "the process has ended");
  if (!target->is_outside()) {
    TRY(sys::signal_process(target->pidfd, number));
    return wire::ProcessSignal::Reply{};
  }
  if (number != SIGKILL)
    return error(Code::not_supported, "an outside program can only be cut off, by SIGKILL");
  instance_.kill(*target);
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

// ---- spawners -------------------------------------------------------------------------------

KERNEL_CALL(SpawnerCreate, Calls::) {
  TRY(check_name(request.name));
  const wire::Profile profile = TRY(check_profile(request.profile));
  std::string image = TRY(check_image(request.image));
  const auto job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  if (!job->is_root()) return error(Code::denied, "a spawner is made with the root job");
  Fd image_fd = TRY(sys::open_image(image));
  auto spawner = std::make_shared<Spawner>(instance_.registry.next_id++, request.name, profile,
                                           std::move(image), std::move(image_fd));
  return wire::SpawnerCreate::Reply{TRY(caller.process.handles.install(
      Reference(std::move(spawner), Spawner::handle_rights, Spawner::handle_rights)))};
}

KERNEL_CALL(SpawnerSpawn, Calls::) {
  TRY(check_name(request.name));
  if (request.handle_count > wire::max_spawn_handles)
    return error(Code::invalid_argument, "more handles than a spawn takes");
  const auto spawner = TRY(caller.process.handles.get<Spawner>(request.spawner, rights::spawn));
  const auto tenant = TRY(caller.process.handles.get<Job>(request.tenant, rights::act));
  if (tenant->killed()) return error(Code::denied, "the tenant's job was killed");
  Instance::SpawnRequest spawn;
  spawn.name = request.name;
  spawn.profile = spawner->profile;
  spawn.image = spawner->image;
  spawn.image_fd = &spawner->image_fd;
  spawn.arguments = TRY(parse_arguments(request.arguments));
  spawn.startup = TRY(
      startup_references(caller.process, std::span(request.handles).first(request.handle_count)));
  spawn.job = tenant->find_child(contexts_job);
  if (spawn.job == nullptr)
    spawn.job = TRY(tenant->make_child(instance_.registry.next_id++, Name::from(contexts_job), {}));
  return spawn_for(caller.process, std::move(spawn));
}

}  // namespace aios::kernel
