// Objects.
#include "abi/include/aios/storage.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>

#include "abi/lib/failure.hpp"
#include "abi/lib/objects.hpp"
#include "abi/lib/storage_client.hpp"

using namespace aios;
using namespace aios::lib;
namespace wire = proto::storage;

namespace {

constexpr std::uint64_t least_buffer_bytes = 64u << 10;
/// A larger buffer is given back after the call that needed it.
constexpr std::uint64_t usual_buffer_bytes = 4u << 20;

static_assert(sizeof(aios_object_info) == sizeof(wire::ObjectInfo));
static_assert(sizeof(aios_object_entry) == sizeof(wire::ListEntry));
static_assert(offsetof(aios_object_entry, name) == offsetof(wire::ListEntry, object));

void give_info(const wire::ObjectInfo& info, aios_object_info* out) {
  if (out != nullptr) std::memcpy(out, &info, sizeof info);
}

}  // namespace

/// One call at a time; not driven by others, since nothing of it outlives a call.
struct aios_storage final : ClientEndpoint {
  aios_storage(std::shared_ptr<Core> of, Handle port)
      : ClientEndpoint(std::move(of)),
        calls(std::make_unique<Client>(core().kernel(), nullptr, port, wire::Protocol::version,
                                       wire::Protocol::name)) {
    client = &calls.client();
    client->on_drive([this](const bool& done) {
      std::unique_lock lock(mutex);
      finish(*this, lock, [&done] { return done; });
    });
  }

  /// Runs `body(deadline)` when it is this thread's turn.
  template <class Body>
  Result<void> in_turn(std::uint64_t timeout_ns, Body body);
  Result<void> forget_closed_regions(Deadline deadline);
  StorageClient::Part part_of(const aios_region& region, std::uint64_t offset,
                              std::uint64_t length);
  /// The buffer, with room for at least so much.
  Result<StorageClient::Part> buffer_of(std::uint64_t bytes, Deadline deadline);
  Result<void> shrink_buffer(Deadline deadline);

  std::timed_mutex turn;
  StorageClient calls;
  Region buffer;
  /// Regions that may be lent, and whether they still exist.
  std::map<Handle, std::weak_ptr<char>> used;
};

template <class Body>
Result<void> aios_storage::in_turn(std::uint64_t timeout_ns, Body body) {
  TRY(core().check_process());
  TRY(prepare_to_sleep());
  const Deadline deadline = deadline_of(timeout_ns);
  std::unique_lock lock(turn, std::defer_lock);
  if (deadline.is_never()) {
    lock.lock();
  } else {
    const std::chrono::steady_clock::time_point until{std::chrono::nanoseconds(
        std::min<std::uint64_t>(deadline.at_ns, std::numeric_limits<std::int64_t>::max()))};
    if (!lock.try_lock_until(until))
      return error(Code::timed_out,
                   "other threads' calls over this aios_storage took all the time");
  }
  TRY(forget_closed_regions(deadline));
  return body(deadline);
}

Result<void> aios_storage::forget_closed_regions(Deadline deadline) {
  for (auto entry = used.begin(); entry != used.end();) {
    if (!entry->second.expired()) {
      ++entry;
      continue;
    }
    TRY(calls.take_back(entry->first, deadline));
    entry = used.erase(entry);
  }
  return {};
}

StorageClient::Part aios_storage::part_of(const aios_region& region, std::uint64_t offset,
                                          std::uint64_t length) {
  used.try_emplace(region.region.handle(), region.life);
  return {region.region, region.writable, offset, length};
}

Result<StorageClient::Part> aios_storage::buffer_of(std::uint64_t bytes, Deadline deadline) {
  if (!buffer.valid() || buffer.size() < bytes) {
    if (buffer.valid()) TRY(calls.take_back(buffer.handle(), deadline));
    buffer.reset();
    buffer = TRY(Region::create(core().kernel(), std::max(bytes, least_buffer_bytes), "storage"));
  }
  return StorageClient::Part{buffer, true, 0, bytes};
}

Result<void> aios_storage::shrink_buffer(Deadline deadline) {
  if (!buffer.valid() || buffer.size() <= usual_buffer_bytes) return {};
  // What the server does not give up now it gives up with the connection.
  (void)calls.take_back(buffer.handle(), deadline);
  buffer.reset();
  return {};
}

namespace {

Result<void> check_region(const aios_storage& storage, const aios_region& region) {
  if (&storage.core() == region.core.get()) return {};
  return error(Code::invalid_argument, "the region is of another attachment than the storage");
}

/// In pieces of the buffer's size, all of one version.
Result<std::size_t> get_in_pieces(aios_storage& storage, const char* name, std::uint64_t version,
                                  std::uint64_t offset, std::span<std::byte> out, Deadline deadline,
                                  aios_object_info* info) {
  std::size_t filled = 0;
  do {
    const std::size_t want = std::min<std::size_t>(out.size() - filled, usual_buffer_bytes);
    const auto part = TRY(storage.buffer_of(want, deadline));
    const auto got = TRY(storage.calls.get(name, offset + filled, version, part, deadline));
    if (got.length != 0) std::memcpy(out.data() + filled, part.region.data(), got.length);
    filled += got.length;
    version = got.info.version;
    give_info(got.info, info);
    if (got.length < want) break;
  } while (filled < out.size());
  return filled;
}

Result<std::size_t> list_some(aios_storage& storage, const std::string& prefix, std::string after,
                              std::span<aios_object_entry> out, Deadline deadline, bool& more) {
  std::size_t count = 0;
  more = true;
  while (more && count < out.size()) {
    const std::uint64_t bytes =
        std::min<std::uint64_t>((out.size() - count) * sizeof(wire::ListEntry), usual_buffer_bytes);
    const auto buffer = TRY(storage.buffer_of(bytes, deadline));
    const auto entries = TRY(storage.calls.list(prefix, after, buffer, more, deadline));
    if (entries.empty()) break;
    std::memcpy(out.data() + count, entries.data(), entries.size() * sizeof(wire::ListEntry));
    count += entries.size();
    after = entries.back().object.view();
  }
  return count;
}

}  // namespace

aios_code aios_storage_open(aios_instance* instance, aios_storage** storage) {
  if (instance == nullptr || storage == nullptr) return null_argument("aios_storage_open");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    const auto port = instance->core->kernel().startup(wire::Protocol::name);
    if (!port || port->type != ObjectType::port)
      return error(Code::not_found, "this instance has no storage");
    *storage = new aios_storage(instance->core, port->handle);
    return {};
  });
}

void aios_storage_close(aios_storage* storage) {
  const Uncancelled until_end;
  if (storage != nullptr && !storage->core().foreign()) delete storage;
}

aios_code aios_storage_put(aios_storage* storage, const char* name, const void* data,
                           std::size_t bytes, std::uint64_t timeout_ns, aios_object_info* info) {
  if (storage == nullptr || name == nullptr || (data == nullptr && bytes != 0))
    return null_argument("aios_storage_put");
  return guarded([&] {
    return storage->in_turn(timeout_ns, [&](Deadline deadline) -> Result<void> {
      const auto part = TRY(storage->buffer_of(bytes, deadline));
      if (bytes != 0) std::memcpy(part.region.data(), data, bytes);
      const auto stored = storage->calls.put(name, part, deadline);
      TRY(storage->shrink_buffer(deadline));
      if (!stored) return std::unexpected(stored.error());
      give_info(*stored, info);
      return {};
    });
  });
}

aios_code aios_storage_get(aios_storage* storage, const char* name, std::uint64_t version,
                           std::uint64_t offset, void* data, std::size_t room,
                           std::uint64_t timeout_ns, std::size_t* bytes, aios_object_info* info) {
  if (storage == nullptr || name == nullptr || bytes == nullptr || (data == nullptr && room != 0))
    return null_argument("aios_storage_get");
  return guarded([&] {
    return storage->in_turn(timeout_ns, [&](Deadline deadline) -> Result<void> {
      *bytes = TRY(get_in_pieces(*storage, name, version, offset,
                                 {static_cast<std::byte*>(data), room}, deadline, info));
      return {};
    });
  });
}

aios_code aios_storage_put_region(aios_storage* storage, const char* name,
                                  const aios_region* region, std::uint64_t region_offset,
                                  std::uint64_t length, std::uint64_t timeout_ns,
                                  aios_object_info* info) {
  if (storage == nullptr || name == nullptr || region == nullptr)
    return null_argument("aios_storage_put_region");
  return guarded([&] {
    return storage->in_turn(timeout_ns, [&](Deadline deadline) -> Result<void> {
      TRY(check_region(*storage, *region));
      const auto part = storage->part_of(*region, region_offset, length);
      give_info(TRY(storage->calls.put(name, part, deadline)), info);
      return {};
    });
  });
}

aios_code aios_storage_get_region(aios_storage* storage, const char* name, std::uint64_t version,
                                  std::uint64_t offset, const aios_region* region,
                                  std::uint64_t region_offset, std::uint64_t length,
                                  std::uint64_t timeout_ns, std::uint64_t* bytes,
                                  aios_object_info* info) {
  if (storage == nullptr || name == nullptr || region == nullptr || bytes == nullptr)
    return null_argument("aios_storage_get_region");
  return guarded([&] {
    return storage->in_turn(timeout_ns, [&](Deadline deadline) -> Result<void> {
      TRY(check_region(*storage, *region));
      const auto part = storage->part_of(*region, region_offset, length);
      const auto got = TRY(storage->calls.get(name, offset, version, part, deadline));
      *bytes = got.length;
      give_info(got.info, info);
      return {};
    });
  });
}

aios_code aios_storage_stat(aios_storage* storage, const char* name, std::uint64_t timeout_ns,
                            aios_object_info* info) {
  if (storage == nullptr || name == nullptr || info == nullptr)
    return null_argument("aios_storage_stat");
  return guarded([&] {
    return storage->in_turn(timeout_ns, [&](Deadline deadline) -> Result<void> {
      give_info(TRY(storage->calls.stat(name, deadline)), info);
      return {};
    });
  });
}

aios_code aios_storage_list(aios_storage* storage, const char* prefix, const char* after,
                            aios_object_entry* entries, std::size_t room, std::uint64_t timeout_ns,
                            std::size_t* count, int* more) {
  if (storage == nullptr || entries == nullptr || room == 0 || count == nullptr || more == nullptr)
    return null_argument("aios_storage_list");
  return guarded([&] {
    return storage->in_turn(timeout_ns, [&](Deadline deadline) -> Result<void> {
      bool others = false;
      *count = TRY(list_some(*storage, prefix != nullptr ? prefix : "",
                             after != nullptr ? after : "", {entries, room}, deadline, others));
      *more = others ? 1 : 0;
      return {};
    });
  });
}

aios_code aios_storage_remove(aios_storage* storage, const char* name, std::uint64_t timeout_ns) {
  if (storage == nullptr || name == nullptr) return null_argument("aios_storage_remove");
  return guarded([&] {
    return storage->in_turn(
        timeout_ns, [&](Deadline deadline) { return storage->calls.remove(name, deadline); });
  });
}

aios_code aios_storage_rename(aios_storage* storage, const char* from, const char* to,
                              std::uint64_t timeout_ns) {
  if (storage == nullptr || from == nullptr || to == nullptr)
    return null_argument("aios_storage_rename");
  return guarded([&] {
    return storage->in_turn(
        timeout_ns, [&](Deadline deadline) { return storage->calls.rename(from, to, deadline); });
  });
}
