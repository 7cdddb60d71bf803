#include "tools/aiosctl/storage_client.hpp"

#include <algorithm>
#include <cstring>

#include "tools/aiosctl/operator.hpp"

namespace aios::ctl {

namespace wire = proto::storage;

namespace {

constexpr std::uint64_t min_buffer_bytes = 64u << 10;

Result<wire::ObjectName> text_of(const std::string& name) {
  if (!wire::ObjectName::fits(name))
    return error(Code::invalid_argument, "a name has at most 199 bytes and none of them is NUL");
  return wire::ObjectName::from(name);
}

Deadline soon() {
  return Deadline::after(call_timeout_ns);
}

}  // namespace

Result<StorageClient> StorageClient::create(Kernel& kernel, std::unique_ptr<Client> client,
                                            std::uint64_t buffer_bytes) {
  Region buffer =
      TRY(Region::create(kernel, std::max(buffer_bytes, min_buffer_bytes), "fs-buffer"));
  StorageClient out(std::move(client), std::move(buffer));
  out.client_->on_disconnect([number = out.number_] { number->reset(); });
  return out;
}

Result<std::uint32_t> StorageClient::attached() {
  if (*number_) return **number_;
  const std::uint32_t access = rights::map_read | rights::map_write;
  const auto reply = TRY(client_->call_with_handles<wire::AttachRegion>(
      {0, 1}, {{buffer_.handle(), ObjectType::region, access | rights::info, 0, false}},
      [](std::span<const Handle> numbers, wire::AttachRegion::Request& request) {
        request.region = numbers[0];
      },
      soon()));
  *number_ = reply.region;
  return reply.region;
}

Result<wire::ObjectInfo> StorageClient::put(const std::string& name, std::uint64_t length) {
  const wire::ObjectName object = TRY(text_of(name));
  const std::uint32_t region = TRY(attached());
  return client_->call<wire::Put>({0, length, region, 0, object},
                                  Deadline::after(transfer_timeout_ns));
}

Result<wire::Get::Reply> StorageClient::get(const std::string& name, std::uint64_t offset,
                                            std::uint64_t version) {
  const wire::ObjectName object = TRY(text_of(name));
  const std::uint32_t region = TRY(attached());
  return client_->call<wire::Get>({0, buffer_.size(), offset, version, region, 0, object},
                                  Deadline::after(transfer_timeout_ns));
}

Result<std::vector<wire::ListEntry>> StorageClient::list(const std::string& prefix,
                                                         const std::string& after, bool& more) {
  const wire::ObjectName first = TRY(text_of(prefix));
  const wire::ObjectName last = TRY(text_of(after));
  const std::uint32_t region = TRY(attached());
  const auto reply =
      TRY(client_->call<wire::List>({0, buffer_.size(), region, 0, first, last}, soon()));
  if (reply.count > buffer_.size() / sizeof(wire::ListEntry))
    return error(Code::protocol_error, "storage lists more objects than the buffer holds");
  more = reply.more != 0;
  std::vector<wire::ListEntry> entries(reply.count);
  if (!entries.empty())
    std::memcpy(entries.data(), buffer_.data(), entries.size() * sizeof(wire::ListEntry));
  return entries;
}

Result<wire::ObjectInfo> StorageClient::stat(const std::string& name) {
  return client_->call<wire::Stat>({TRY(text_of(name))}, soon());
}

Result<> StorageClient::remove(const std::string& name) {
  TRY(client_->call<wire::Remove>({TRY(text_of(name))}, soon()));
  return {};
}

Result<> StorageClient::rename(const std::string& from, const std::string& to) {
  TRY(client_->call<wire::Rename>({TRY(text_of(from)), TRY(text_of(to))}, soon()));
  return {};
}

Result<std::uint64_t> StorageClient::remove_prefix(const std::string& prefix) {
  const auto reply = TRY(client_->call<wire::RemovePrefix>({TRY(text_of(prefix))},
                                                           Deadline::after(transfer_timeout_ns)));
  return reply.count;
}

Result<wire::Info::Reply> StorageClient::info() {
  return client_->call<wire::Info>({}, soon());
}

}  // namespace aios::ctl
