// The way of a put through the store.
#include <cassert>

#include "services/storage/checksums.hpp"
#include "services/storage/store_requests.hpp"

namespace aios::storage {

void ObjectStore::put(Client client, ObjectKey key, std::span<const std::byte> source, Keep keep,
                      Now now, Done<ObjectInfo> done, std::optional<Operation> operation) {
  if (!admit(done)) return;
  now_ = now;
  const PutRef put = puts_.insert(puts_.end(), {.client = client,
                                                .key = std::move(key),
                                                .source = source,
                                                .keep = std::move(keep),
                                                .done = std::move(done),
                                                .operation = operation});
  put->object.info = {.size_bytes = source.size(),
                      .version = next_version_++,
                      .created_ns = now.realtime_ns,
                      .checksum = 0};
  // Whether it was made already is decided when it is committed; to write it for nothing costs more
  // than to look.
  if (!operation || operation->id.age_ns == 0) return begin_put(put);
  commit_.with_metadata([this, put] {
    const auto made = metadata_->put_made_before(put->key, *put->operation);
    if (!made) return end_put(put, std::unexpected(made.error()));
    if (*made) return end_put(put, **made);
    begin_put(put);
  });
}

void ObjectStore::begin_put(PutRef put) {
  if (put->source.size() > max_inline_bytes)
    waiting_for_space_.push_back(put);
  else
    put_inline(put);
}

void ObjectStore::put_inline(PutRef put) {
  Content& content = put->object.content;
  content.inline_bytes.assign(put->source.begin(), put->source.end());
  if (!content.inline_bytes.empty())
    content.checksums = {block_checksum(put->object.info.version, 0, content.inline_bytes)};
  commit_.with_metadata([this, put] {
    if (put->cancelled) return end_put(put, error(Code::cancelled, "the client is gone"));
    if (Result<> room = space_.check_inline_room(metadata_->reusable_bytes()); !room)
      return end_put(put, std::unexpected(room.error()));
    commit_put(put);
  });
}

bool ObjectStore::start_waiting_puts() {
  bool any = false;
  while (!waiting_for_space_.empty() && !space_.growing()) {
    const PutRef put = waiting_for_space_.front();
    if (put->cancelled) {
      waiting_for_space_.pop_front();
      end_put(put, error(Code::cancelled, "the client is gone"));
      continue;
    }
    auto extents = space_.allocate(blocks_for(put->source.size()));
    if (extents && !*extents) break;  // the file grows
    waiting_for_space_.pop_front();
    any = true;
    if (extents)
      start_writing(put, **std::move(extents));
    else
      end_put(put, std::unexpected(extents.error()));
  }
  return any;
}

void ObjectStore::start_writing(PutRef put, std::vector<Extent> extents) {
  put->object.content.extents = extents;
  put->transfer =
      transfers_->start(WriteTransfer{put->object.info.version, std::move(extents), put->source},
                        [this, put](Result<std::vector<std::uint64_t>> checksums) {
                          written(put, std::move(checksums));
                        });
}

void ObjectStore::written(PutRef put, Result<std::vector<std::uint64_t>> checksums) {
  put->transfer.reset();
  Content& content = put->object.content;
  if (!checksums && checksums.error().code() == Code::io_error)
    return rewrite_or_fail(put, checksums.error());
  if (!checksums) {
    space_.release(content.extents);
    return end_put(put, std::unexpected(checksums.error()));
  }
  const bool first_time = content.checksums.empty();
  if (!first_time && content.checksums != *checksums) {
    space_.release(content.extents);
    return end_put(put, error(Code::source_changed,
                              "the bytes changed while they were stored a second time, after an "
                              "error of the disk"));
  }
  content.checksums = *std::move(checksums);
  if (put->tainted) return rewrite_or_fail(put, Status(Code::io_error, "flushing the data file"));
  commit_put(put);
}

void ObjectStore::commit_put(PutRef put) {
  Object& object = put->object;
  object.info.checksum = object_checksum(object.content.checksums);
  commit_.add(PutChange{put->key, &object, put->operation}, !object.content.extents.empty(),
              now_.monotonic_ns, [this, put](Result<> result, Change& change) {
                committed(put, std::move(result), std::get<PutChange>(change));
              });
}

void ObjectStore::committed(PutRef put, Result<> result, const PutChange& change) {
  if (result && (change.refused || change.made_before)) {
    space_.release(put->object.content.extents);
    if (change.refused) return end_put(put, std::unexpected(*change.refused));
    return end_put(put, *change.made_before);
  }
  if (result) {
    ++acknowledged_puts_;
    return end_put(put, put->object.info);
  }
  if (result.error().code() == Code::io_error) return rewrite_or_fail(put, result.error());
  space_.release(put->object.content.extents);
  end_put(put, std::unexpected(result.error()));
}

void ObjectStore::rewrite_or_fail(PutRef put, Status status) {
  // What the disk failed to store is not released: this process uses it no more.
  put->object.content.extents.clear();
  put->tainted = false;
  if (put->rewritten) return end_put(put, std::unexpected(std::move(status)));
  put->rewritten = true;
  waiting_for_space_.push_back(put);
}

void ObjectStore::end_put(PutRef put, Result<ObjectInfo> result) {
  const Done<ObjectInfo> done = std::move(put->done);
  puts_.erase(put);
  done(std::move(result));
}

}  // namespace aios::storage
