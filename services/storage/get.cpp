// The way of a get through the store.
#include <algorithm>
#include <cstring>

#include "services/storage/checksums.hpp"
#include "services/storage/store_requests.hpp"

namespace aios::storage {

void ObjectStore::get(Client client, ObjectKey key, std::uint64_t version, std::uint64_t offset,
                      std::span<std::byte> destination, Keep keep, Done<GetResult> done) {
  if (!admit(done)) return;
  const GetRef get = gets_.insert(gets_.end(), {.client = client,
                                                .key = std::move(key),
                                                .version = version,
                                                .offset = offset,
                                                .destination = destination,
                                                .keep = std::move(keep),
                                                .done = std::move(done)});
  commit_.with_metadata([this, get] { start_get(get); });
}

void ObjectStore::start_get(GetRef get) {
  if (get->cancelled) return end_get(get, error(Code::cancelled, "the client is gone"));
  Result<Object> object = metadata_->find(get->key);
  if (!object) return end_get(get, std::unexpected(object.error()));
  const ObjectInfo& info = object->info;
  if (get->version != 0 && get->version != info.version)
    return end_get(get,
                   error(Code::source_changed, get->key.name + " was replaced: its version is " +
                                                   std::to_string(info.version)));
  const std::uint64_t offset = std::min(get->offset, info.size_bytes);
  const std::uint64_t length =
      std::min<std::uint64_t>(get->destination.size(), info.size_bytes - offset);
  get->result = {length, info};
  const std::span<std::byte> destination = get->destination.first(length);
  if (length == 0) return end_get(get, {});
  if (object->content.extents.empty())
    return end_get(get, copy_inline(*object, offset, destination));
  space_.pin(info.version);
  get->transfer = transfers_->start(ReadTransfer{.version = info.version,
                                                 .size_bytes = info.size_bytes,
                                                 .extents = std::move(object->content.extents),
                                                 .checksums = std::move(object->content.checksums),
                                                 .offset = offset,
                                                 .destination = destination},
                                    [this, get](Result<> result) {
                                      space_.unpin(get->result.info.version);
                                      end_get(get, std::move(result));
                                    });
}

Result<> ObjectStore::copy_inline(const Object& object, std::uint64_t offset,
                                  std::span<std::byte> destination) {
  const std::vector<std::byte>& bytes = object.content.inline_bytes;
  if (block_checksum(object.info.version, 0, bytes) != object.content.checksums.front())
    return error(Code::corrupt, "block 0 does not match its checksum");
  std::memcpy(destination.data(), bytes.data() + offset, destination.size());
  return {};
}

void ObjectStore::end_get(GetRef get, Result<> result) {
  const Done<GetResult> done = std::move(get->done);
  const GetResult good = get->result;
  const std::string name = std::move(get->key.name);
  gets_.erase(get);
  if (result) return done(good);
  const Status& failed = result.error();
  done(error(failed.code(),
             failed.code() == Code::corrupt ? name + ": " + failed.message() : failed.message()));
}

}  // namespace aios::storage
