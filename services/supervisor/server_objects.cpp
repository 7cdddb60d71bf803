#include "services/supervisor/server_objects.hpp"

#include <cassert>
#include <csignal>
#include <cstring>

#include "abi/runtime/fault_handler.hpp"
#include "abi/runtime/sandbox/sandbox.hpp"

namespace aios::supervisor {

namespace {

namespace wire = proto::kernel;

constexpr const char* system_label = "system";
constexpr const char* manifest_label = "manifest";
constexpr std::uint32_t connect_rights =
    rights::info | rights::duplicate | rights::send | rights::connect;
constexpr std::uint32_t port_rights = connect_rights | rights::accept;
constexpr std::uint32_t spawner_rights =
    rights::info | rights::duplicate | rights::send | rights::spawn;

/// "a\0b\0": how process_spawn takes arguments.
Result<void> put_arguments(const std::vector<std::string>& arguments, char (&out)[512]) {
  std::size_t at = 0;
  for (const std::string& argument : arguments) {
    if (argument.size() + 1 > sizeof out - at)
      return error(Code::too_large,
                   "the arguments, with the paths of the state and libexec folders, are longer "
                   "than 512 bytes: use shorter paths");
    std::memcpy(out + at, argument.c_str(), argument.size() + 1);
    at += argument.size() + 1;
  }
  return {};
}

}  // namespace

Result<ObjectStore> ObjectStore::create(Kernel& kernel, Handle root, Folders folders) {
  ObjectStore store(kernel, root, std::move(folders));
  store.system_ = TRY(store.job(root, system_label, "system", {}));
  return store;
}

Result<void> ObjectStore::keep(Handle handle, const std::string& label) {
  TRY(kernel_->call<wire::HandleKeep>({handle, wire::Label::from(label)}));
  return {};
}

Result<Handle> ObjectStore::job(Handle parent, const std::string& label, const std::string& name,
                                const wire::Quota& quota) {
  if (const auto kept = kernel_->startup(label)) return kept->handle;
  const Handle made =
      TRY(kernel_->call<wire::JobCreate>({parent, wire::Name::from(name), quota})).reply.job;
  TRY(keep(made, label));
  return made;
}

Result<Handle> ObjectStore::own_port() {
  return port(std::string(supervisor_name), port_rights);
}

Result<Handle> ObjectStore::port(const std::string& name, std::uint32_t use) {
  const std::string label = "port:" + name;
  if (const auto kept = kernel_->startup(label)) return kept->handle;
  const Handle made = TRY(kernel_->call<wire::PortCreate>({wire::Name::from(name)})).reply.port;
  const Handle port = TRY(kernel_->duplicate(made, use, port_rights));
  kernel_->close(made);
  TRY(keep(port, label));
  return port;
}

Result<Handle> ObjectStore::spawner(const std::string& server, const SpawnerSpec& spec) {
  const std::string label = "spawner:" + server;
  if (const auto kept = kernel_->startup(label)) return kept->handle;
  wire::SpawnerCreate::Request request{};
  request.job = root_;
  request.profile = static_cast<std::uint32_t>(spec.profile);
  request.name = wire::Name::from(spec.binary);
  const std::string path = TRY(image(spec.binary));
  request.image = proto::Text<512>::from(path);
  const Handle made = TRY(kernel_->call<wire::SpawnerCreate>(request)).reply.spawner;
  TRY(keep(made, label));
  return made;
}

Result<std::string> ObjectStore::image(const std::string& binary) const {
  std::string path = folders_.libexec + "/" + binary;
  if (!proto::Text<512>::fits(path))
    return error(Code::too_large, "the path of " + binary + " is longer than 511 bytes");
  return path;
}

Result<ServerObjects> ObjectStore::objects_of(const ServerSpec& spec) {
  ServerObjects objects;
  objects.job = TRY(job(system_, "job:" + spec.name, spec.name, spec.quota));
  objects.port = TRY(port(spec.name, connect_rights | rights::manage));
  if (spec.spawner) objects.spawner = TRY(spawner(spec.name, *spec.spawner));
  return objects;
}

Result<void> ObjectStore::publish(const std::string& name, Handle port) {
  TRY(kernel_->call<wire::PortPublish>({root_, port, wire::Label::from(name)}));
  return {};
}

Result<std::optional<ServerProcessRef>> ObjectStore::find_process(const ServerSpec& spec,
                                                                  const ServerObjects& objects) {
  std::uint64_t after = 0;
  for (;;) {
    const wire::ProcessRecord record =
        TRY(kernel_->call<wire::ProcessNext>({objects.job, after})).reply;
    if (record.process_id == 0) return std::optional<ServerProcessRef>();
    after = record.process_id;
    if (record.exited != 0 || record.name.view() != spec.name ||
        record.job_name.view() != spec.name)
      continue;
    const auto opened = kernel_->call<wire::ProcessOpen>({objects.job, record.process_id});
    if (!opened && opened.error().code() == Code::not_found) continue;  // it has just ended
    if (!opened) return std::unexpected(opened.error());
    return ServerProcessRef{opened->reply.process, record.process_id, record.pid, record.epoch,
                            record.started_ns};
  }
}

Result<ServerProcessRef> ObjectStore::spawn(const ServerSpec& spec, const ServerObjects& objects,
                                            const std::map<std::string, Handle>& ports,
                                            bool crashed) {
  wire::ProcessSpawn::Request request{};
  request.job = objects.job;
  request.profile = static_cast<std::uint32_t>(spec.profile);
  request.name = wire::Name::from(spec.name);
  const std::string path = TRY(image(spec.binary));
  request.image = proto::Text<512>::from(path);
  std::vector<std::string> arguments{"--state", folders_.state, "--libexec", folders_.libexec};
  if (crashed) arguments.emplace_back("--crashed");
  if (spec.require != 0)
    arguments.insert(arguments.end(), {"--require", sandbox::protection_list(spec.require)});
  arguments.insert(arguments.end(), spec.arguments.begin(), spec.arguments.end());
  TRY(put_arguments(arguments, request.arguments));
  const auto give = [&request](std::string_view label, Handle handle, std::uint32_t mask) {
    assert(request.handle_count < wire::max_spawn_handles);
    request.handles[request.handle_count++] = {wire::Label::from(label), handle, mask, mask};
  };
  give(port_label, objects.port, port_rights);
  for (const std::string& route : spec.routes) give(route, ports.at(route), connect_rights);
  if (spec.spawner) give(spec.spawner->label, objects.spawner, spawner_rights);
  const auto reply = TRY(kernel_->call<wire::ProcessSpawn>(request)).reply;
  const auto record = TRY(kernel_->call<wire::ProcessInfo>({reply.process})).reply;
  return ServerProcessRef{reply.process, reply.process_id, reply.pid, record.epoch,
                          record.started_ns};
}

Result<void> ObjectStore::set_down(Handle port, bool down) {
  TRY(kernel_->call<wire::PortSetDown>({port, down ? 1u : 0u}));
  return {};
}

Result<bool> ObjectStore::is_down(Handle port) {
  return TRY(kernel_->call<wire::HandleInfo>({port})).reply.detail != 0;
}

Result<void> ObjectStore::signal(Handle process, int signal_number) {
  TRY(kernel_->call<wire::ProcessSignal>({process, static_cast<std::uint32_t>(signal_number), 0}));
  return {};
}

Result<Exit> ObjectStore::exit_of(Handle process) {
  const auto record = TRY(kernel_->call<wire::ProcessInfo>({process})).reply;
  if (record.exited == 0) return error(Code::busy, "the process has not ended");
  // In its namespace it ends itself after a fault, and says with its exit code which one.
  if (record.exit_signalled == 0 && record.exit_code > exit_signal_base &&
      record.exit_code < exit_signal_base + NSIG)
    return Exit{record.exit_code - exit_signal_base, true};
  return Exit{record.exit_code, record.exit_signalled != 0};
}

Result<std::optional<std::string>> ObjectStore::kept_manifest() {
  const auto kept = kernel_->startup(manifest_label);
  if (!kept) return std::optional<std::string>();
  const Region region = TRY(Region::map(*kernel_, kept->handle, Mapping::Access::read));
  const char* text = reinterpret_cast<const char*>(region.data());
  return std::optional<std::string>(std::string(text, ::strnlen(text, region.size())));
}

Result<void> ObjectStore::keep_manifest(const std::string& text) {
  const Region region = TRY(Region::create(*kernel_, text.size() + 1, manifest_label));
  std::memcpy(region.data(), text.data(), text.size());
  return keep(region.handle(), manifest_label);
}

}  // namespace aios::supervisor
