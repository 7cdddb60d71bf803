#include "abi/lib/storage_client.hpp"

#include <sys/random.h>

#include <algorithm>
#include <cstring>

namespace aios {

namespace wire = proto::storage;

namespace {

Result<wire::ObjectName> text_of(const std::string& name) {
  if (!wire::ObjectName::fits(name))
    return error(Code::invalid_argument, "a name has at most 199 bytes and none of them is NUL");
  return wire::ObjectName::from(name);
}

/// More deaths of a server than a call can meet in any reasonable time.
constexpr int max_attempts = 1000;

/// Whether this answer to a change that was asked for again says that it did not happen: whoever
/// gives it has looked, or would refuse it always.
bool settles(Code code) {
  switch (code) {
    case Code::not_found:
    case Code::invalid_argument:
    case Code::indeterminate:
    case Code::source_changed:
    case Code::too_large:
    case Code::version_mismatch:
      return true;
    default:
      return false;
  }
}

/// Never 0.
std::uint64_t random_number() {
  std::uint64_t number = 0;
  while (number == 0)
    if (::getrandom(&number, sizeof number, 0) != sizeof number) number = 0;
  return number;
}

}  // namespace

StorageClient::StorageClient(std::unique_ptr<Client> client) : client_(std::move(client)) {
  client_->on_disconnect([connection = connection_] {
    connection->lent.clear();
    ++connection->lost;
  });
}

Result<std::uint32_t> StorageClient::lend(const Part& part, Deadline deadline) {
  if (part.offset > part.region.size() || part.length > part.region.size() - part.offset)
    return error(Code::invalid_argument, "the memory named is not within the region");
  const Handle handle = part.region.handle();
  if (const auto found = connection_->lent.find(handle); found != connection_->lent.end())
    return found->second;
  if (connection_->lent.size() >= max_lent)
    TRY(take_back(connection_->lent.begin()->first, deadline));
  const std::uint32_t access = rights::map_read | (part.writable ? rights::map_write : 0);
  const std::uint64_t lost = connection_->lost;
  const auto reply = TRY(client_->call_with_handles<wire::AttachRegion>(
      {0, part.writable ? 1u : 0u}, {{handle, ObjectType::region, access | rights::info, 0, false}},
      [](std::span<const Handle> numbers, wire::AttachRegion::Request& request) {
        request.region = numbers[0];
      },
      deadline));
  // The answer may be the last thing of its connection, and then the number is already void.
  if (connection_->lost == lost) connection_->lent.emplace(handle, reply.region);
  return reply.region;
}

Result<> StorageClient::take_back(Handle region, Deadline deadline) {
  const auto found = connection_->lent.find(region);
  if (found == connection_->lent.end()) return {};
  const std::uint64_t number = found->second;
  const std::uint64_t lost = connection_->lost;
  const auto reply = client_->call<wire::DetachRegion>({number}, deadline);
  // With its connection the server gave up all regions that came over it.
  if (!reply && connection_->lost == lost) return std::unexpected(reply.error());
  connection_->lent.erase(region);
  return {};
}

template <class Attempt>
auto StorageClient::persist(Attempt attempt) -> decltype(attempt()) {
  for (int attempts = 1;; ++attempts) {
    const std::uint64_t lost = connection_->lost;
    auto reply = attempt();
    // Without a connection that ended it is the kernel that is gone.
    if (reply || reply.error().code() != Code::peer_closed || connection_->lost == lost ||
        attempts == max_attempts)
      return reply;
  }
}

template <class Attempt>
auto StorageClient::change(Attempt attempt) -> decltype(attempt(wire::Operation{})) {
  if (session_ == 0) session_ = random_number();
  wire::Operation operation{session_, ++sequence_, sequence_ - 1, 0};
  const std::uint64_t first_ns = now_ns();
  bool again = false;
  auto reply = persist([&] {
    if (std::exchange(again, true))
      operation.age_ns = std::max<std::uint64_t>(now_ns() - first_ns, 1);
    return attempt(operation);
  });
  if (reply || operation.age_ns == 0 || settles(reply.error().code())) return reply;
  return error(Code::indeterminate,
               "storage went away while it was asked, and did not say again "
               "whether it was done: " +
                   reply.error().to_string());
}

template <class M, class Make>
Result<typename M::Reply> StorageClient::call_with(const Part& part, Deadline deadline, Make make) {
  for (;;) {
    const std::uint64_t lost = connection_->lost;
    const std::uint32_t region = TRY(lend(part, deadline));
    auto reply = client_->call<M>(make(region), deadline);
    // A request that had to wait for a new connection names a region of the old one. Nothing of it
    // was done, so it is made once more.
    if (reply || reply.error().code() != Code::not_found || connection_->lost == lost) return reply;
  }
}

Result<wire::ObjectInfo> StorageClient::put(const std::string& name, const Part& from,
                                            Deadline deadline) {
  const wire::ObjectName object = TRY(text_of(name));
  return change([&](const wire::Operation& operation) {
    return call_with<wire::Put>(from, deadline, [&](std::uint32_t region) {
      return wire::Put::Request{from.offset, from.length, region, 0, object, operation};
    });
  });
}

Result<wire::Get::Reply> StorageClient::get(const std::string& name, std::uint64_t offset,
                                            std::uint64_t version, const Part& to,
                                            Deadline deadline) {
  const wire::ObjectName object = TRY(text_of(name));
  if (!to.writable) return error(Code::invalid_argument, "a get fills memory: this is read-only");
  const auto got = TRY(persist([&] {
    return call_with<wire::Get>(to, deadline, [&](std::uint32_t region) {
      return wire::Get::Request{to.offset, to.length, offset, version, region, 0, object};
    });
  }));
  if (got.length > to.length)
    return error(Code::protocol_error, "storage filled more than it was given");
  return got;
}

Result<std::vector<wire::ListEntry>> StorageClient::list(const std::string& prefix,
                                                         const std::string& after,
                                                         const Part& buffer, bool& more,
                                                         Deadline deadline) {
  const wire::ObjectName first = TRY(text_of(prefix));
  const wire::ObjectName last = TRY(text_of(after));
  const auto reply = TRY(persist([&] {
    return call_with<wire::List>(buffer, deadline, [&](std::uint32_t region) {
      return wire::List::Request{buffer.offset, buffer.length, region, 0, first, last};
    });
  }));
  if (reply.count > buffer.length / sizeof(wire::ListEntry))
    return error(Code::protocol_error, "storage lists more objects than the buffer holds");
  more = reply.more != 0;
  std::vector<wire::ListEntry> entries(reply.count);
  if (!entries.empty())
    std::memcpy(entries.data(), buffer.region.data() + buffer.offset,
                entries.size() * sizeof(wire::ListEntry));
  return entries;
}

Result<wire::ObjectInfo> StorageClient::stat(const std::string& name, Deadline deadline) {
  return client_->call<wire::Stat>({TRY(text_of(name))}, deadline);
}

Result<> StorageClient::remove(const std::string& name, Deadline deadline) {
  const wire::ObjectName object = TRY(text_of(name));
  TRY(change([&](const wire::Operation& operation) {
    return client_->call<wire::Remove>({object, operation}, deadline);
  }));
  return {};
}

Result<> StorageClient::rename(const std::string& from, const std::string& to, Deadline deadline) {
  const wire::ObjectName old_name = TRY(text_of(from));
  const wire::ObjectName new_name = TRY(text_of(to));
  TRY(change([&](const wire::Operation& operation) {
    return client_->call<wire::Rename>({old_name, new_name, operation}, deadline);
  }));
  return {};
}

Result<std::uint64_t> StorageClient::remove_prefix(const std::string& prefix, Deadline deadline) {
  const wire::ObjectName name = TRY(text_of(prefix));
  return TRY(change([&](const wire::Operation& operation) {
           return client_->call<wire::RemovePrefix>({name, operation}, deadline);
         }))
      .count;
}

Result<wire::Info::Reply> StorageClient::info(Deadline deadline) {
  return client_->call<wire::Info>({}, deadline);
}

}  // namespace aios
