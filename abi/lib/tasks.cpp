// Tasks.
#include "abi/lib/tasks.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>
#include <type_traits>

#include "abi/include/aios/codelet.h"
#include "abi/lib/failure.hpp"
#include "abi/lib/file_channel.hpp"
#include "abi/lib/module_file.hpp"
#include "abi/lib/objects.hpp"

using namespace aios;
using namespace aios::lib;
namespace wire = proto::scheduler;

static_assert(sizeof(aios_task_record) == sizeof(wire::TaskRecord));
static_assert(offsetof(aios_task_record, limit_ns) == offsetof(wire::TaskRecord, limit_ns));
static_assert(offsetof(aios_task_record, buffers) == offsetof(wire::TaskRecord, buffers));
static_assert(offsetof(aios_task_record, dependencies) == offsetof(wire::TaskRecord, dependencies));
static_assert(offsetof(aios_task_record, arguments) == offsetof(wire::TaskRecord, arguments));
static_assert(offsetof(aios_task_record, gang) == offsetof(wire::TaskRecord, gang));
static_assert(sizeof(aios_completion) == sizeof(wire::Completion));
static_assert(offsetof(aios_completion, result) == offsetof(wire::Completion, result));
static_assert(AIOS_MAX_BATCH == wire::max_batch &&
              AIOS_MAX_TASK_BUFFERS == proto::context::max_task_buffers &&
              AIOS_MAX_TASK_DEPENDENCIES == wire::max_dependencies &&
              AIOS_MAX_TASK_ARGUMENT_BYTES == proto::context::max_argument_bytes &&
              AIOS_MAX_FILE_RANGES == proto::kernel::max_lent_files &&
              AIOS_TASK_IDEMPOTENT == wire::task_flag::idempotent &&
              AIOS_TASK_MAY_BE_CHEAPER == wire::task_flag::may_be_cheaper &&
              AIOS_TASK_GANG == wire::task_flag::gang && AIOS_MAX_GANG == wire::max_gang);

namespace {

aios_device describe(std::uint32_t index, const proto::driver::Device::Reply& from) {
  aios_device device{};
  device.index = index;
  device.healthy = from.health == static_cast<std::uint32_t>(proto::driver::Health::ok) ? 1 : 0;
  device.emulated = from.emulated;
  device.threads = from.threads;
  device.memory_bytes = from.memory_bytes;
  const auto copy = [](auto& to, const auto& text) {
    static_assert(sizeof to == sizeof text.bytes);
    const std::string_view view = text.view().substr(0, sizeof to - 1);
    std::memcpy(to, view.data(), view.size());
  };
  copy(device.kind, from.kind);
  copy(device.backend, from.backend);
  copy(device.name, from.model);
  copy(device.uuid, from.uuid);
  return device;
}

/// Keeps what is registered when it has been; the program is told our number for it.
template <class What>
TaskCallback<std::uint32_t> note(aios_tenant& tenant, What what, TaskCallback<std::uint32_t> done) {
  return [&tenant, what = std::move(what),
          done = std::move(done)](Result<std::uint32_t> there) mutable {
    if (!there) return done(std::move(there));
    what.there = *there;
    done(tenant.registered.add(std::move(what)));
  };
}

Result<std::uint32_t> register_codelet(aios_tenant& tenant, std::span<const std::byte> module,
                                       const char* function, Deadline deadline) {
  TRY(tenant.core().check_process());
  Registrations::Codelet one{
      std::make_shared<Region>(TRY(module_region(tenant.core().kernel(), module))),
      module.size(),
      function,
      backends_of(module),
      module_hash_of(module),
      0};
  return tenant.ask<std::uint32_t>(deadline, [&](TaskTenant& t, auto done) {
    t.register_codelet(one.module->handle(), 0, one.length, one.function, one.function,
                       one.backends, deadline, note(tenant, one, std::move(done)), one.module_hash);
  });
}

Result<void> set_cheaper(aios_tenant& tenant, std::uint32_t codelet, std::uint32_t cheaper,
                         Deadline deadline) {
  return tenant.ask<void>(deadline, [&](TaskTenant& t, auto done) {
    const auto there = tenant.registered.codelet_there(codelet);
    const auto cheaper_there = tenant.registered.codelet_there(cheaper);
    if (!there) return done(std::unexpected(there.error()));
    if (!cheaper_there) return done(std::unexpected(cheaper_there.error()));
    t.set_cheaper(*there, *cheaper_there, deadline,
                  [&tenant, codelet, cheaper, done = std::move(done)](Result<void> result) mutable {
                    if (result) tenant.registered.set_cheaper(codelet, cheaper);
                    done(std::move(result));
                  });
  });
}

Result<std::uint32_t> register_buffer(aios_tenant& tenant, const aios_region& region,
                                      std::uint64_t offset, std::uint64_t length,
                                      std::uint32_t access, Deadline deadline) {
  TRY(rights_of(access));
  const bool write = (access & AIOS_GRANT_WRITE) != 0;
  if (region.core.get() != &tenant.core())
    return error(Code::invalid_argument, "the region is of another attachment than the tenant");
  if (write && !region.writable) return error(Code::denied, "the region is read-only here");
  if (offset > region.region.size() || length > region.region.size() - offset)
    return error(Code::invalid_argument, "the buffer is not within the region");
  TRY(tenant.core().check_process());
  const auto kept = TRY(tenant.keep(region.region.handle(), write));
  const Registrations::Buffer one{
      kept.handle, kept.object_id, ObjectType::region, offset, length, write, 0};
  return tenant.ask<std::uint32_t>(deadline, [&](TaskTenant& t, auto done) {
    t.register_buffer(kept.handle->get(), offset, length, write, deadline,
                      note(tenant, one, std::move(done)));
  });
}

/// A context could write to what is lent open for writing.
Result<LentPiece> lendable(const aios_file_range& range) {
  const std::string which = "descriptor " + std::to_string(range.fd);
  const int flags = ::fcntl(range.fd, F_GETFL);
  if (flags < 0) return errno_error(which, errno);
  if ((flags & (O_ACCMODE | O_PATH)) != O_RDONLY)
    return error(Code::invalid_argument, which + " is not open for reading alone");
  struct stat info {};
  if (::fstat(range.fd, &info) != 0) return errno_error(which, errno);
  if (!S_ISREG(info.st_mode)) return error(Code::invalid_argument, which + " is no regular file");
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (range.reserved != 0 || range.offset > size || range.length > size - range.offset)
    return error(Code::invalid_argument, "the range is not within the file of " + which);
  return LentPiece{range.fd, range.offset, range.length, size};
}

Result<std::uint32_t> register_files(aios_tenant& tenant, std::span<const aios_file_range> ranges,
                                     Deadline deadline) {
  Kernel& kernel = tenant.core().kernel();
  TRY(tenant.core().check_process());
  std::vector<LentPiece> pieces;
  if (ranges.size() <= AIOS_MAX_FILE_RANGES)
    for (const aios_file_range& range : ranges) pieces.push_back(TRY(lendable(range)));
  const auto channel = std::make_shared<KeptHandle>(kernel, TRY(lend_files(kernel, pieces)));
  const auto info = TRY(kernel.call<proto::kernel::HandleInfo>({channel->get()}));
  const Registrations::Buffer one{channel, info.reply.object_id, ObjectType::file, 0, 0, false, 0};
  return tenant.ask<std::uint32_t>(deadline, [&](TaskTenant& t, auto done) {
    t.register_files(channel->get(), deadline, note(tenant, one, std::move(done)));
  });
}

Result<void> release_buffer(aios_tenant& tenant, std::uint32_t buffer, Deadline deadline) {
  return tenant.ask<void>(deadline, [&](TaskTenant& t, auto done) {
    const auto there = tenant.registered.buffer_there(buffer);
    if (!there) return done(std::unexpected(there.error()));
    t.release_buffer(*there, deadline,
                     [&tenant, buffer, done = std::move(done)](Result<void> result) mutable {
                       if (result) tenant.registered.remove_buffer(buffer);
                       done(std::move(result));
                     });
  });
}

Result<std::size_t> take_completions(aios_tenant& tenant, std::span<aios_completion> out,
                                     std::size_t least, Deadline deadline) {
  TRY(tenant.core().check_process());
  TRY(prepare_to_sleep());
  std::unique_lock lock(tenant.mutex);
  const auto has_enough = [&] {
    if (tenant.finished.size() >= least || tenant.broken) return true;
    tenant.want_completions(least - tenant.finished.size());
    return tenant.has_all();
  };
  finish(tenant, lock, has_enough, deadline);
  const std::size_t count = std::min(out.size(), tenant.finished.size());
  const auto end = tenant.finished.begin() + static_cast<std::ptrdiff_t>(count);
  std::copy(tenant.finished.begin(), end, out.begin());
  tenant.finished.erase(tenant.finished.begin(), end);
  if (count != 0) return count;
  if (tenant.broken) return std::unexpected(*tenant.broken);
  return error(Code::timed_out, "no task finished in time");
}

}  // namespace

aios_code aios_tenant_open(aios_instance* instance, std::uint64_t timeout_ns,
                           aios_tenant** tenant) {
  if (instance == nullptr || tenant == nullptr) return null_argument("aios_tenant_open");
  return guarded([&]() -> Result<void> {
    Core& core = *instance->core;
    TRY(core.check_process());
    const auto port = core.kernel().startup(wire::Protocol::name);
    if (!port || port->type != ObjectType::port)
      return error(Code::not_found, "this instance has no scheduler");
    auto made = std::make_shared<aios_tenant>(instance->core, port->handle);
    TRY(made->open(deadline_of(timeout_ns)));
    core.add(made);
    made->self = made;
    *tenant = made.get();
    return {};
  });
}

void aios_tenant_close(aios_tenant* tenant) {
  if (tenant == nullptr || tenant->core().foreign()) return;
  const Uncancelled until_end;
  std::shared_ptr<aios_tenant> last;
  guarded_end([&] {
    const std::lock_guard lock(tenant->mutex);
    last = std::move(tenant->self);
    tenant->close();
  });
}

aios_code aios_tenant_device(aios_tenant* tenant, std::uint32_t index, std::uint64_t timeout_ns,
                             aios_device* device) {
  if (tenant == nullptr || device == nullptr) return null_argument("aios_tenant_device");
  return guarded([&]() -> Result<void> {
    const Deadline deadline = deadline_of(timeout_ns);
    const auto reply = TRY(tenant->ask<wire::DeviceNext::Reply>(
        deadline, [&](TaskTenant& t, auto done) { t.device(index, deadline, std::move(done)); }));
    *device = describe(index, reply.device);
    return {};
  });
}

aios_code aios_codelet_register(aios_tenant* tenant, const void* module, std::size_t bytes,
                                const char* function, std::uint64_t timeout_ns,
                                std::uint32_t* codelet) {
  if (tenant == nullptr || module == nullptr || function == nullptr || codelet == nullptr)
    return null_argument("aios_codelet_register");
  return guarded([&]() -> Result<void> {
    *codelet = TRY(register_codelet(*tenant, {static_cast<const std::byte*>(module), bytes},
                                    function, deadline_of(timeout_ns)));
    return {};
  });
}

aios_code aios_codelet_register_file(aios_tenant* tenant, const char* path, const char* function,
                                     std::uint64_t timeout_ns, std::uint32_t* codelet) {
  if (tenant == nullptr || path == nullptr || function == nullptr || codelet == nullptr)
    return null_argument("aios_codelet_register_file");
  return guarded([&]() -> Result<void> {
    const std::vector<std::byte> module = TRY(read_module_file(path));
    *codelet = TRY(register_codelet(*tenant, module, function, deadline_of(timeout_ns)));
    return {};
  });
}

aios_code aios_codelet_set_cheaper(aios_tenant* tenant, std::uint32_t codelet,
                                   std::uint32_t cheaper, std::uint64_t timeout_ns) {
  if (tenant == nullptr) return null_argument("aios_codelet_set_cheaper");
  return guarded([&] { return set_cheaper(*tenant, codelet, cheaper, deadline_of(timeout_ns)); });
}

aios_code aios_buffer_register(aios_tenant* tenant, const aios_region* region, std::uint64_t offset,
                               std::uint64_t length, std::uint32_t access, std::uint64_t timeout_ns,
                               std::uint32_t* buffer) {
  if (tenant == nullptr || region == nullptr || buffer == nullptr)
    return null_argument("aios_buffer_register");
  return guarded([&]() -> Result<void> {
    *buffer =
        TRY(register_buffer(*tenant, *region, offset, length, access, deadline_of(timeout_ns)));
    return {};
  });
}

aios_code aios_files_register(aios_tenant* tenant, const aios_file_range* ranges, std::size_t count,
                              std::uint64_t timeout_ns, std::uint32_t* buffer) {
  if (tenant == nullptr || ranges == nullptr || buffer == nullptr)
    return null_argument("aios_files_register");
  return guarded([&]() -> Result<void> {
    *buffer = TRY(register_files(*tenant, {ranges, count}, deadline_of(timeout_ns)));
    return {};
  });
}

aios_code aios_buffer_release(aios_tenant* tenant, std::uint32_t buffer, std::uint64_t timeout_ns) {
  if (tenant == nullptr) return null_argument("aios_buffer_release");
  return guarded([&] { return release_buffer(*tenant, buffer, deadline_of(timeout_ns)); });
}

aios_code aios_task_init(aios_task_record* task, std::uint64_t tag, std::uint32_t codelet) {
  if (task == nullptr) return null_argument("aios_task_init");
  const wire::TaskRecord record = make_task(tag, codelet);
  std::memcpy(task, &record, sizeof record);
  return AIOS_OK;
}

aios_code aios_task_add_buffer(aios_task_record* task, std::uint32_t buffer, std::uint32_t mode) {
  if (task == nullptr) return null_argument("aios_task_add_buffer");
  if (mode < AIOS_MODE_READ || mode > AIOS_MODE_REDUX || buffer >> 28 != 0)
    return fail(Code::invalid_argument, "a buffer's mode is one of AIOS_MODE_*");
  if (task->buffer_count >= AIOS_MAX_TASK_BUFFERS)
    return fail(Code::quota, "a task has at most 16 buffers");
  task->buffers[task->buffer_count++] = buffer | mode << 28;
  return AIOS_OK;
}

aios_code aios_task_add_dependency(aios_task_record* task, std::uint64_t tag) {
  if (task == nullptr) return null_argument("aios_task_add_dependency");
  if (task->dependency_count >= AIOS_MAX_TASK_DEPENDENCIES)
    return fail(Code::quota, "a task depends on at most 12 others");
  task->dependencies[task->dependency_count++] = static_cast<std::uint32_t>(tag);
  return AIOS_OK;
}

aios_code aios_task_set_arguments(aios_task_record* task, const void* bytes, std::size_t count) {
  if (task == nullptr || (bytes == nullptr && count != 0))
    return null_argument("aios_task_set_arguments");
  if (count > AIOS_MAX_TASK_ARGUMENT_BYTES)
    return fail(Code::too_large, "a task has at most 64 bytes of arguments");
  std::memset(task->arguments, 0, sizeof task->arguments);
  if (count != 0) std::memcpy(task->arguments, bytes, count);
  task->argument_bytes = static_cast<std::uint32_t>(count);
  return AIOS_OK;
}

aios_code aios_task_set_gang(aios_task_record* task, std::uint32_t gang, std::uint32_t size) {
  if (task == nullptr) return null_argument("aios_task_set_gang");
  if (size < 2 || size > AIOS_MAX_GANG)
    return fail(Code::invalid_argument, "a gang has 2 to 256 members");
  task->flags |= AIOS_TASK_GANG;
  task->gang = gang;
  task->gang_size = size;
  return AIOS_OK;
}

aios_code aios_tasks_submit(aios_tenant* tenant, const aios_task_record* tasks, std::size_t count,
                            std::uint64_t timeout_ns) {
  if (tenant == nullptr || tasks == nullptr) return null_argument("aios_tasks_submit");
  return guarded([&]() -> Result<void> {
    if (count == 0 || count > AIOS_MAX_BATCH)
      return error(Code::invalid_argument, "a batch is 1 to 1024 tasks");
    return tenant->submit({reinterpret_cast<const wire::TaskRecord*>(tasks), count},
                          deadline_of(timeout_ns));
  });
}

aios_code aios_tasks_submit_many(aios_tenant* tenant, const aios_task_record* tasks,
                                 std::size_t count, std::uint64_t timeout_ns, std::size_t* taken) {
  if (tenant == nullptr || tasks == nullptr || taken == nullptr)
    return null_argument("aios_tasks_submit_many");
  *taken = 0;
  return guarded([&]() -> Result<void> {
    if (count == 0) return error(Code::invalid_argument, "there is no task to submit");
    return tenant->submit_many({reinterpret_cast<const wire::TaskRecord*>(tasks), count},
                               deadline_of(timeout_ns), *taken);
  });
}

aios_code aios_tenant_completions(aios_tenant* tenant, aios_completion* completions,
                                  std::size_t room, std::uint64_t timeout_ns, std::size_t* count) {
  if (tenant == nullptr || completions == nullptr || room == 0 || count == nullptr)
    return null_argument("aios_tenant_completions");
  return guarded([&]() -> Result<void> {
    *count = TRY(take_completions(*tenant, {completions, room}, 1, deadline_of(timeout_ns)));
    return {};
  });
}

aios_code aios_tenant_completions_of(aios_tenant* tenant, aios_completion* completions,
                                     std::size_t room, std::size_t least, std::uint64_t timeout_ns,
                                     std::size_t* count) {
  if (tenant == nullptr || completions == nullptr || room == 0 || count == nullptr)
    return null_argument("aios_tenant_completions_of");
  return guarded([&]() -> Result<void> {
    if (least == 0 || least > room)
      return error(Code::invalid_argument, "the least is 1 to the room that there is");
    *count = TRY(take_completions(*tenant, {completions, room}, least, deadline_of(timeout_ns)));
    return {};
  });
}

aios_code aios_task_failure(aios_tenant* tenant, std::uint64_t tag, char* text, std::size_t room,
                            std::uint64_t timeout_ns) {
  if (tenant == nullptr || text == nullptr || room == 0) return null_argument("aios_task_failure");
  return guarded([&]() -> Result<void> {
    const std::string why = TRY(tenant->failure(tag, deadline_of(timeout_ns)));
    const std::size_t length = std::min(why.size(), room - 1);
    std::memcpy(text, why.data(), length);
    text[length] = '\0';
    return {};
  });
}

aios_code aios_tasks_cancel(aios_tenant* tenant, std::uint64_t first, std::uint64_t last,
                            std::uint64_t timeout_ns, std::size_t* cancelled,
                            std::size_t* running) {
  if (tenant == nullptr || cancelled == nullptr) return null_argument("aios_tasks_cancel");
  return guarded([&]() -> Result<void> {
    const auto counts = TRY(tenant->cancel(first, last, deadline_of(timeout_ns)));
    *cancelled = counts.cancelled;
    if (running != nullptr) *running = counts.running;
    return {};
  });
}

aios_code aios_task_cancel(aios_tenant* tenant, std::uint64_t tag, std::uint64_t timeout_ns) {
  if (tenant == nullptr) return null_argument("aios_task_cancel");
  return guarded([&] { return tenant->cancel(tag, deadline_of(timeout_ns)); });
}
