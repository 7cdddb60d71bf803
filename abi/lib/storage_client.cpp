#include "abi/lib/storage_client.hpp"

#include <cstring>

namespace aios {

namespace wire = proto::storage;

namespace {

Result<wire::ObjectName> text_of(const std::string& name) {
  if (!wire::ObjectName::fits(name))
    return error(Code::invalid_argument, "a name has at most 199 bytes and none of them is NUL");
  return wire::ObjectName::from(name);
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
  const auto reply = TRY(client_->call_with_handles<wire::AttachRegion>(
      {0, part.writable ? 1u : 0u}, {{handle, ObjectType::region, access | rights::info, 0, false}},
      [](std::span<const Handle> numbers, wire::AttachRegion::Request& request) {
        request.region = numbers[0];
      },
      deadline));
  connection_->lent.emplace(handle, reply.region);
  return reply.region;
}

Result<> StorageClient::take_back(Handle region, Deadline deadline) {
  const auto found = connection_->lent.find(region);
  if (found == connection_->lent.end()) return {};
  const std::uint64_t number = found->second;
  TRY(client_->call<wire::DetachRegion>({number}, deadline));
  connection_->lent.erase(region);
  return {};
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
  return call_with<wire::Put>(from, deadline, [&](std::uint32_t region) {
    return wire::Put::Request{from.offset, from.length, region, 0, object};
  });
}

Result<wire::Get::Reply> StorageClient::get(const std::string& name, std::uint64_t offset,
                                            std::uint64_t version, const Part& to,
                                            Deadline deadline) {
  const wire::ObjectName object = TRY(text_of(name));
  if (!to.writable) return error(Code::invalid_argument, "a get fills memory: this is read-only");
  const auto got = TRY(call_with<wire::Get>(to, deadline, [&](std::uint32_t region) {
    return wire::Get::Request{to.offset, to.length, offset, version, region, 0, object};
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
  const auto reply = TRY(call_with<wire::List>(buffer, deadline, [&](std::uint32_t region) {
    return wire::List::Request{buffer.offset, buffer.length, region, 0, first, last};
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
  TRY(client_->call<wire::Remove>({TRY(text_of(name))}, deadline));
  return {};
}

Result<> StorageClient::rename(const std::string& from, const std::string& to, Deadline deadline) {
  TRY(client_->call<wire::Rename>({TRY(text_of(from)), TRY(text_of(to))}, deadline));
  return {};
}

Result<std::uint64_t> StorageClient::remove_prefix(const std::string& prefix, Deadline deadline) {
  return TRY(client_->call<wire::RemovePrefix>({TRY(text_of(prefix))}, deadline)).count;
}

Result<wire::Info::Reply> StorageClient::info(Deadline deadline) {
  return client_->call<wire::Info>({}, deadline);
}

}  // namespace aios
