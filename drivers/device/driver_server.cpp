#include "drivers/device/driver_server.hpp"

#include <algorithm>
#include <csignal>

#include "abi/runtime/handle_claims.hpp"
#include "abi/runtime/log.hpp"
#include "drivers/device/spawn.hpp"

namespace aios::device {
namespace {

using proto::driver::Absent;
using proto::driver::CloseContext;
using proto::driver::OpenContext;
namespace kernel_calls = proto::kernel;

constexpr std::uint64_t lonely_ns = 2 * ns_per_s;
constexpr std::uint64_t remembered_ns = 6 * ns_per_s;
constexpr const char* gone_text = "the device is gone: its driver does not list it any more";

}  // namespace

void DriverServer::set_devices(std::vector<DeviceDescription> devices) {
  for (Device& known : devices_) {
    const auto found = std::ranges::find(devices, known.is.uuid, &DeviceDescription::uuid);
    const bool failed = found == devices.end();
    if (failed != known.failed)
      log_line(known.is.backend + " device " + known.is.uuid + (failed ? " is gone" : " is back"));
    known.failed = failed;
    known.doubted_by.clear();
    if (failed) continue;
    known.is = std::move(*found);
    devices.erase(found);
  }
  for (DeviceDescription& added : devices) {
    if (devices_.size() == max_devices) {
      log_line("only the first 16 devices are used");
      break;
    }
    devices_.push_back({.is = std::move(added)});
  }
  if (!std::exchange(known_, true)) adopt();
}

bool DriverServer::any_failed() const {
  return std::ranges::any_of(devices_, &Device::failed);
}

Result<void> DriverServer::check_device(std::uint64_t index) const {
  if (index < devices_.size()) return {};
  return error(Code::not_found, "this driver has " + std::to_string(devices_.size()) + " devices");
}

void DriverServer::adopt() {
  std::vector<KeptHandle> kept;
  for (const StartupHandle& handle : kernel_.startup())
    if (handle.kept) kept.push_back({handle.label, handle.handle});
  const Adoption plan = plan_adoption(kept);
  for (const KeptHandle& entry : plan.useless) {
    (void)keep(kernel_, entry.label, 0);
    kernel_.close(entry.handle);
  }
  owners_.adopt(plan.owners);
  for (const Context& found : plan.contexts) {
    if (found.key.device >= devices_.size() || contexts_.find(found.key) != nullptr ||
        !contexts_.make_room())
      continue;
    Context& context = contexts_.insert(found);
    watch(context);
    find_out_end(context);
  }
  if (!plan.contexts.empty())
    log_line("adopted contexts of the former driver: " + std::to_string(plan.contexts.size()));
}

Result<void> DriverServer::check_present(const Device& device, std::uint64_t tenant_job_id) const {
  if (device.doubted_by.contains(tenant_job_id))
    return error(Code::busy, "whether the device is still there is being found out");
  if (device.failed) return error(Code::service_down, gone_text);
  return {};
}

Answer<proto::driver::Device::Reply> DriverServer::handle(
    proto::driver::Device, const proto::driver::Device::Request& request, CallContext&) {
  proto::driver::Device::Reply reply{};
  if (!known_) return error(Code::busy, "the driver still looks for its devices");
  reply.count = static_cast<std::uint32_t>(devices_.size());
  if (devices_.empty() && request.index == 0) return reply;
  TRY(check_device(request.index));
  const DeviceDescription& device = devices_[request.index].is;
  const auto index = static_cast<std::uint32_t>(request.index);
  reply.cores = device.cores;
  reply.threads = device.threads;
  reply.queue_depth = device.queue_depth;
  reply.numa_nodes = device.numa_nodes;
  reply.contexts = contexts_.alive(index);
  reply.context_restarts = contexts_.restarts(index);
  reply.emulated = device.emulated ? 1 : 0;
  reply.faults = contexts_.faults(index);
  reply.peers = device.peers;
  reply.own_memory = device.own_memory ? 1 : 0;
  reply.numa_node = device.numa_node;
  reply.memory_bytes = device.memory_bytes;
  reply.cache_bytes = device.cache_bytes;
  reply.kind = decltype(reply.kind)::from(device.kind);
  reply.backend = decltype(reply.backend)::from(device.backend);
  reply.uuid = decltype(reply.uuid)::from(device.uuid);
  reply.model = decltype(reply.model)::from(device.model);
  reply.pci_address = decltype(reply.pci_address)::from(device.pci_address);
  add_readings(devices_[request.index], reply);
  return reply;
}

void DriverServer::add_readings(const Device& device, proto::driver::Device::Reply& reply) const {
  using proto::driver::Health;
  reply.health = static_cast<std::uint32_t>(device.failed ? Health::failed : Health::ok);
  if (device.failed) reply.reason = decltype(reply.reason)::from(gone_text);
  const Readings read = readings_ && !device.failed ? readings_(device.is) : Readings{};
  reply.millicelsius = read.celsius ? static_cast<std::int32_t>(*read.celsius * 1000)
                                    : proto::driver::unknown_temperature;
  reply.busy_permille = read.busy ? static_cast<std::uint32_t>(*read.busy * 1000)
                                  : proto::driver::unknown_utilisation;
}

Answer<Absent::Reply> DriverServer::handle(Absent, const Absent::Request& request, CallContext&) {
  if (!known_) return error(Code::busy, "the driver still looks for its devices");
  Absent::Reply reply{};
  reply.count = absent_.size();
  if (absent_.empty() && request.index == 0) return reply;
  if (request.index >= absent_.size())
    return error(Code::not_found, "there is no absence " + std::to_string(request.index));
  const Absence& absence = absent_[request.index];
  reply.backend = decltype(reply.backend)::from(absence.backend);
  reply.why = decltype(reply.why)::from(absence.why);
  reply.advice = decltype(reply.advice)::from(absence.advice);
  return reply;
}

Answer<OpenContext::Reply> DriverServer::handle(OpenContext, const OpenContext::Request& request,
                                                CallContext& call) {
  std::uint64_t job_id = 0;
  std::uint32_t uid = 0;
  OwnedHandle tenant = TRY(take_tenant(request.tenant, call.peer().process_id, job_id, uid));
  TRY(check_device(request.device));
  const ContextKey key{static_cast<std::uint32_t>(request.device), job_id};
  Context* context = contexts_.find(key);
  // Who saw the context's link close may ask before the signal of its end has come here.
  if (context != nullptr) find_out_end(*context);
  TRY(check_present(devices_[request.device], job_id));
  if (context == nullptr || !context->alive) context = TRY(start(tenant.get(), key, uid));
  owners_.let_restart(key, std::move(tenant));
  context->uid = uid;
  context->asked_ns = now_ns();
  const kernel_calls::LinkSend::Entry port{
      .handle = context->port,
      .expected_type = static_cast<std::uint32_t>(ObjectType::port),
      .use = rights::connect | rights::info,
      .grant = 0,
      .move = 0};
  const std::vector<Handle> sent = TRY(server_->send_handles(call.client(), std::span(&port, 1)));
  OpenContext::Reply reply{};
  reply.port = sent.front();
  reply.process_id = context->process_id;
  reply.generation = context->generation;
  reply.previous_end = static_cast<std::uint32_t>(context->previous.how);
  reply.threads = devices_[key.device].is.threads;
  reply.previous_cause = decltype(reply.previous_cause)::from(context->previous.cause);
  return reply;
}

Answer<CloseContext::Reply> DriverServer::handle(CloseContext, const CloseContext::Request& request,
                                                 CallContext& call) {
  TRY(check_device(request.device));
  const ContextKey key{static_cast<std::uint32_t>(request.device), request.tenant_job_id};
  Context* context = contexts_.find(key);
  if (context != nullptr) find_out_end(*context);
  if (context == nullptr || !context->alive) {
    end(key);
    return proto::Empty{};
  }
  kill(*context);
  // One that cannot die, since its device hangs, is asked for again and again.
  const auto [first, last] = closing_.equal_range(context->process);
  for (auto closing = first; closing != last; ++closing)
    if (closing->second.client == call.client()) {
      server_->reply<CloseContext>(std::exchange(closing->second, call.token()),
                                   error(Code::busy, "it was asked for again"));
      return deferred;
    }
  closing_.emplace(context->process, call.token());
  return deferred;
}

void DriverServer::kill(const Context& context) {
  (void)kernel_.call<kernel_calls::ProcessSignal>(
      {.process = context.process, .signal_number = SIGKILL, .reserved = 0});
}

void DriverServer::end(ContextKey key) {
  owners_.end(key);
  const auto context = contexts_.remove(key);
  if (!context) return;
  if (context->alive) kill(*context);
  release(*context);
}

/// The number came in a message: what it names is used, and closed, only when it is a job that the
/// same client sent, and not this driver's own.
Result<OwnedHandle> DriverServer::take_tenant(Handle handle, std::uint64_t sender,
                                              std::uint64_t& job_id, std::uint32_t& uid) {
  const auto info = TRY(received_handle(kernel_, handle, sender, {ObjectType::job}));
  if (handle == kernel_.job()) return error(Code::denied, "the driver's own job is no tenant");
  job_id = info.object_id;
  uid = static_cast<std::uint32_t>(info.detail);
  return OwnedHandle(kernel_, handle);
}

Result<Context*> DriverServer::start(Handle tenant, ContextKey key, std::uint32_t uid) {
  const Context* former = contexts_.find(key);
  if (former == nullptr) TRY(make_room(uid));
  Context context = TRY(spawn(tenant, key, uid, former == nullptr ? 1 : former->generation + 1));
  if (const auto ended = contexts_.remove(key)) {
    context.previous = ended->end;
    release(*ended);
  }
  watch(context);
  return &contexts_.insert(std::move(context));
}

Result<void> DriverServer::make_room(std::uint32_t uid) {
  if (const auto may = contexts_.may_have_another(uid); !may && !end_lonely(uid)) return may;
  auto evicted = contexts_.make_room();
  if (!evicted && end_lonely(std::nullopt)) evicted = contexts_.make_room();
  if (!evicted) return std::unexpected(std::move(evicted).error());
  if (!*evicted) return {};
  owners_.end((*evicted)->key);
  release(**evicted);
  return {};
}

/// Ends one context that nobody is linked to: a scheduler that died has left it, and its job has
/// not asked for it again. It would end by itself, but not soon enough for who waits for its place.
bool DriverServer::end_lonely(std::optional<std::uint32_t> uid) {
  for (const ContextKey& key : contexts_.living(uid)) {
    const Context& context = *contexts_.find(key);
    // Who has just asked for it is on the way.
    if (now_ns() - context.asked_ns < lonely_ns) continue;
    if (closing_.contains(context.process)) continue;  // it is ending
    const auto record = kernel_.call<kernel_calls::ProcessInfo>({.process = context.process});
    if (!record || record->reply.links != 0) continue;
    log_line("context " + std::to_string(record->reply.process_id) +
             " makes room: nobody is linked");
    end(key);
    return true;
  }
  return false;
}

/// The port is kept before the process is there and the process at once after: a driver that dies
/// in between leaves a port without a process, which its successor forgets.
Result<Context> DriverServer::spawn(Handle tenant, ContextKey key, std::uint32_t uid,
                                    std::uint32_t generation) {
  OwnedHandle port(kernel_, TRY(make_port(kernel_, context_name_)));
  Context context{.key = key, .generation = generation, .uid = uid, .port = port.get()};
  TRY(keep_part(KeptPart::port, context, port.get()));
  const DeviceDescription& on = devices_[key.device].is;
  std::vector<kernel_calls::SpawnHandle> handles{{.label = kernel_calls::Label::from("port"),
                                                  .handle = port.get(),
                                                  .use = rights::accept | rights::info,
                                                  .grant = 0}};
  if (const Handle memory = owners_.port(tenant, key, on.memory_arguments); memory != 0)
    handles.push_back({.label = kernel_calls::Label::from("memory"),
                       .handle = memory,
                       .use = rights::connect | rights::info,
                       .grant = 0});
  const auto spawned =
      device::spawn(kernel_, spawner_, tenant, context_name_, on.context_arguments, handles);
  if (!spawned) {
    (void)keep_part(KeptPart::port, context, 0);
    return error(spawned.error().code(), "cannot start a context: " + spawned.error().message());
  }
  context.process = spawned->process;
  context.process_id = spawned->process_id;
  if (const auto kept = keep_part(KeptPart::process, context, context.process); !kept)
    log_line("a context will not outlive this driver: " + kept.error().to_string());
  (void)port.release();
  return context;
}

Result<void> DriverServer::keep_part(KeptPart part, const Context& context, Handle handle) {
  return keep(kernel_, kept_label(part, context.key, context.generation), handle);
}

void DriverServer::watch(const Context& context) {
  loop_.on_signal(context.process, [this, process = context.process](std::uint32_t) {
    if (Context* owner = contexts_.find_process(process)) find_out_end(*owner);
  });
}

void DriverServer::find_out_end(Context& context) {
  if (!context.alive) return;
  const auto record = kernel_.call<kernel_calls::ProcessInfo>({.process = context.process});
  if (!record) {
    log_line("cannot ask after a context: " + record.error().to_string());
    return;
  }
  context.process_id = record->reply.process_id;
  if (record->reply.exited == 0) return;
  const End end = describe_end(record->reply.exit_signalled != 0, record->reply.exit_code);
  log_line("context " + std::to_string(context.process_id) + " of job " +
           std::to_string(context.key.tenant_job_id) + " ended: " + end.cause);
  contexts_.ended(context, end);
  if (end.doubts_device && doubted_ && context.key.device < devices_.size()) {
    devices_[context.key.device].doubted_by.insert(context.key.tenant_job_id);
    loop_.post(doubted_);
  }
  auto tombstone = std::make_shared<Tombstone>(kernel_, loop_);
  if (tombstone->listen(context.port)) tombstones_[context.port] = std::move(tombstone);
  if (closing_.contains(context.process)) end_later(context.process, 0);
  // It is remembered for who was linked to it, and asks soon; for ever it would keep its job.
  end_later(context.process, remembered_ns);
}

void DriverServer::end_later(Handle process, std::uint64_t after_ns) {
  loop_.after(after_ns, [this, process] {
    const Context* ended = contexts_.find_process(process);
    if (ended != nullptr && !ended->alive) end(ended->key);
  });
}

void DriverServer::release(const Context& context) {
  loop_.forget_signal(context.process);
  // What the loop was asked to do for it comes first.
  if (auto tombstone = tombstones_.extract(context.port))
    loop_.post([gone = std::move(tombstone.mapped())] {});
  // Whoever waits there for a connection would wait for its deadline: nobody will accept.
  (void)kernel_.call<kernel_calls::PortSetDown>({.port = context.port, .down = 1});
  (void)keep_part(KeptPart::process, context, 0);
  (void)keep_part(KeptPart::port, context, 0);
  const auto [first, last] = closing_.equal_range(context.process);
  for (auto closing = first; closing != last; ++closing)
    server_->reply<CloseContext>(closing->second, proto::Empty{});
  closing_.erase(first, last);
  kernel_.close(context.process);
  kernel_.close(context.port);
}

}  // namespace aios::device
