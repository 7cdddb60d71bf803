#include "services/storage/object_store.hpp"

#include <algorithm>
#include <utility>

#include "services/storage/store_requests.hpp"

namespace aios::storage {

Result<std::unique_ptr<ObjectStore>> ObjectStore::create(Parts parts) {
  std::unique_ptr<ObjectStore> out(new ObjectStore(std::move(parts)));
  out->transfers_ = TRY(Transfers::create(*out->disk_));
  TRY(out->space_.load(*out->metadata_));
  out->next_version_ = out->metadata_->next_version();
  return out;
}

ObjectStore::ObjectStore(Parts parts)
    : metadata_(std::move(parts.metadata)),
      space_(*parts.disk),
      commit_(*parts.disk, *metadata_, *parts.background, space_),
      disk_(std::move(parts.disk)),
      background_(std::move(parts.background)) {
  commit_.on_flush_failure([this] {
    for (Put& put : puts_) put.tainted = put.tainted || put.transfer.has_value();
  });
}

ObjectStore::~ObjectStore() = default;

void ObjectStore::stat(ObjectKey key, Done<ObjectInfo> done) {
  if (!admit(done)) return;
  commit_.with_metadata(
      [this, key = std::move(key), done = std::move(done)] { done(metadata_->stat(key)); });
}

void ObjectStore::list(ObjectKey prefix, std::string after, std::uint32_t limit,
                       Done<Listing> done) {
  if (!admit(done)) return;
  limit = std::min(limit, max_listed);
  commit_.with_metadata(
      [this, prefix = std::move(prefix), after = std::move(after), limit, done = std::move(done)] {
        // One more than asked for tells whether more are there.
        Result<std::vector<ListedObject>> found = metadata_->list(prefix, after, limit + 1);
        if (!found) return done(std::unexpected(found.error()));
        const bool more = found->size() > limit;
        if (more) found->resize(limit);
        done(Listing{*std::move(found), more});
      });
}

void ObjectStore::info(Done<StoreInfo> done) {
  if (!admit(done)) return;
  commit_.with_metadata([this, done = std::move(done)] {
    const Result<DiskIo::Space> space = disk_->space();
    done(StoreInfo{.objects = metadata_->totals().objects,
                   .stored_bytes = metadata_->totals().stored_bytes,
                   .free_bytes = space ? space->free_bytes : 0,
                   .puts = acknowledged_puts_,
                   .flushes = commit_.batches(),
                   .backend = disk_->backend()});
  });
}

namespace {

/// What a remove or rename came to.
template <class C>
Result<> found_by(Result<> result, const C& change, const std::string& name) {
  if (!result) return result;
  if (change.refused) return std::unexpected(*change.refused);
  if (!change.found) return error(Code::not_found, "no object " + name);
  return {};
}

}  // namespace

void ObjectStore::remove(ObjectKey key, Now now, Done<> done, std::optional<Operation> operation) {
  if (!admit(done)) return;
  const std::string name = key.name;
  commit_.add(RemoveChange{.key = std::move(key), .operation = operation}, false, now.monotonic_ns,
              [name, done = std::move(done)](Result<> result, Change& change) {
                done(found_by(std::move(result), std::get<RemoveChange>(change), name));
              });
}

void ObjectStore::rename(ObjectKey from, std::string to, Now now, Done<> done,
                         std::optional<Operation> operation) {
  if (!admit(done)) return;
  const std::string name = from.name;
  commit_.add(RenameChange{.from = std::move(from), .to = std::move(to), .operation = operation},
              false, now.monotonic_ns,
              [name, done = std::move(done)](Result<> result, Change& change) {
                done(found_by(std::move(result), std::get<RenameChange>(change), name));
              });
}

void ObjectStore::remove_prefix(ObjectKey prefix, Now now, Done<std::uint64_t> done,
                                std::optional<Operation> operation) {
  if (!admit(done)) return;
  now_ = now;
  remove_next_slice({.prefix = std::move(prefix), .operation = operation}, std::move(done));
}

void ObjectStore::remove_next_slice(RemovePrefixChange next, Done<std::uint64_t> done) {
  commit_.add(std::move(next), false, now_.monotonic_ns,
              [this, done = std::move(done)](Result<> result, Change& change) {
                if (!result) return done(std::unexpected(result.error()));
                auto& slice = std::get<RemovePrefixChange>(change);
                if (slice.refused) return done(std::unexpected(*slice.refused));
                if (!slice.more) return done(slice.count);
                remove_next_slice(std::move(slice), done);
              });
}

void ObjectStore::cancel(Client client) {
  for (Put& put : puts_)
    if (put.client == client) {
      put.cancelled = true;
      if (put.transfer) transfers_->cancel(*put.transfer);
    }
  for (Get& get : gets_)
    if (get.client == client) {
      get.cancelled = true;
      if (get.transfer) transfers_->cancel(*get.transfer);
    }
}

void ObjectStore::advance(Now now) {
  now_ = now;
  call_again_ = true;
  for (int round = 0; round < max_rounds && call_again_ && !fatal(); ++round) {
    bool happened = disk_->poll() != 0;
    happened |= start_waiting_puts();
    happened |= transfers_->pump();
    const bool more_to_come = transfers_->active_writes() != 0 || !waiting_for_space_.empty();
    happened |= commit_.advance(now.monotonic_ns, more_to_come);
    call_again_ = !disk_->submit() || happened;
  }
}

std::optional<std::uint64_t> ObjectStore::deadline_ns() const {
  if (call_again_ && !fatal()) return now_.monotonic_ns;
  return commit_.deadline_ns();
}

}  // namespace aios::storage
