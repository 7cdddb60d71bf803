#include "drivers/device/memory_owners.hpp"

#include <csignal>

#include "abi/runtime/log.hpp"
#include "drivers/device/context_end.hpp"
#include "drivers/device/spawn.hpp"

namespace aios::device {

namespace {

constexpr const char* owner_name = "device-memory";
constexpr std::uint32_t max_deaths = 5;

std::string label(KeptPart part, ContextKey key) {
  return kept_label(part, key, 0);
}

}  // namespace

void MemoryOwners::adopt(const std::vector<KeptOwner>& owners) {
  for (const KeptOwner& found : owners) {
    Owner& owner = owners_[found.key];
    owner.port = found.port;
    owner.process = found.process;
    watch(found.key, found.process);
    (void)find_out_end(found.key);
  }
}

Handle MemoryOwners::port(Handle tenant, ContextKey key,
                          const std::vector<std::string>& arguments) {
  if (arguments.empty()) return 0;
  // Who saw its links close may be here before the signal of its end.
  if (owners_.contains(key) && find_out_end(key)) {
    Owner& there = owners_.at(key);
    there.arguments = arguments;
    return there.port;
  }
  const Result<void> added = add(tenant, key, arguments);
  if (added) return owners_.at(key).port;
  log_line("device memory of job " + std::to_string(key.tenant_job_id) +
           " will not outlive its contexts: " + added.error().to_string());
  return 0;
}

Result<void> MemoryOwners::add(Handle tenant, ContextKey key,
                               const std::vector<std::string>& arguments) {
  if (owners_.size() >= max_contexts)
    return error(Code::quota, "a driver has at most " + std::to_string(max_contexts) +
                                  " processes that own memory");
  Owner& owner = owners_[key];
  owner.arguments = arguments;
  const auto begun = [&]() -> Result<void> {
    owner.port = TRY(make_port(kernel_, owner_name));
    TRY(keep(kernel_, label(KeptPart::owner_port, key), owner.port));
    return start(key, owner, tenant);
  }();
  if (!begun) forget(key);
  return begun;
}

void MemoryOwners::let_restart(ContextKey key, OwnedHandle tenant) {
  const auto found = owners_.find(key);
  if (found != owners_.end() && !found->second.tenant)
    found->second.tenant.emplace(std::move(tenant));
}

Result<void> MemoryOwners::start(ContextKey key, Owner& owner, Handle tenant) {
  const proto::kernel::SpawnHandle port{.label = proto::kernel::Label::from("port"),
                                        .handle = owner.port,
                                        .use = rights::accept | rights::info,
                                        .grant = 0};
  owner.process =
      TRY(spawn(kernel_, spawner_, tenant, owner_name, owner.arguments, std::span(&port, 1)))
          .process;
  watch(key, owner.process);
  if (const auto kept = keep(kernel_, label(KeptPart::owner_process, key), owner.process); !kept)
    log_line("device memory will not outlive this driver: " + kept.error().to_string());
  return {};
}

void MemoryOwners::watch(ContextKey key, Handle process) {
  loop_.on_signal(process, [this, key](std::uint32_t) { (void)find_out_end(key); });
}

bool MemoryOwners::find_out_end(ContextKey key) {
  Owner& owner = owners_.at(key);
  if (owner.process == 0) return true;
  const auto record = kernel_.call<proto::kernel::ProcessInfo>({.process = owner.process});
  if (!record || record->reply.exited == 0) return true;
  const bool signalled = record->reply.exit_signalled != 0;
  const int code = record->reply.exit_code;
  log_line("the owner of device memory of job " + std::to_string(key.tenant_job_id) +
           " ended: " + describe_end(signalled, code).cause);
  drop_process(key, owner);
  const bool wanted = signalled || (code != exit_in_order && code != exit_device_gone);
  if (!wanted || !owner.tenant || ++owner.deaths > max_deaths) {
    forget(key);
    return false;
  }
  restart_later(key, owner);
  return true;
}

/// At once the first time, then after a second, two, four...
void MemoryOwners::restart_later(ContextKey key, Owner& owner) {
  const std::uint64_t delay_ns = owner.deaths == 1 ? 0 : ns_per_s << (owner.deaths - 2);
  owner.restart = loop_.after(delay_ns, [this, key] {
    Owner& dead = owners_.at(key);
    dead.restart = 0;
    if (const auto started = start(key, dead, dead.tenant->get()); !started) {
      log_line("cannot start the owner of device memory again: " + started.error().to_string());
      forget(key);
    }
  });
}

void MemoryOwners::drop_process(ContextKey key, Owner& owner) {
  if (owner.process == 0) return;
  loop_.forget_signal(owner.process);
  (void)keep(kernel_, label(KeptPart::owner_process, key), 0);
  kernel_.close(std::exchange(owner.process, 0));
}

void MemoryOwners::end(ContextKey key) {
  const auto found = owners_.find(key);
  if (found == owners_.end()) return;
  if (found->second.process != 0)
    (void)kernel_.call<proto::kernel::ProcessSignal>(
        {.process = found->second.process, .signal_number = SIGKILL, .reserved = 0});
  forget(key);
}

void MemoryOwners::forget(ContextKey key) {
  auto entry = owners_.extract(key);
  if (entry.empty()) return;
  Owner& owner = entry.mapped();
  loop_.cancel(owner.restart);
  drop_process(key, owner);
  if (owner.port != 0) {
    (void)kernel_.call<proto::kernel::PortSetDown>({.port = owner.port, .down = 1});
    (void)keep(kernel_, label(KeptPart::owner_port, key), 0);
    kernel_.close(owner.port);
  }
}

}  // namespace aios::device
