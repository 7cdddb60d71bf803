// The puts and gets under way in an ObjectStore; part of its implementation.
#pragma once

#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "services/storage/object_store.hpp"

namespace aios::storage {

/// Waits for blocks, is written, becomes part of a batch; after a failure of the disk once again
/// from the beginning.
struct ObjectStore::Put {
  Client client;
  ObjectKey key;
  std::span<const std::byte> source;
  Keep keep;
  Done<ObjectInfo> done;
  std::optional<Operation> operation{};
  Object object{};
  std::optional<Transfers::Id> transfer{};  ///< while it is written
  bool rewritten = false;                   ///< the second attempt is under way
  bool tainted = false;  ///< a flush failed while it was written: earlier writes may be lost
  bool cancelled = false;
};

struct ObjectStore::Get {
  Client client;
  ObjectKey key;
  std::uint64_t version;
  std::uint64_t offset;
  std::span<std::byte> destination;
  Keep keep;
  Done<GetResult> done;
  GetResult result{};
  std::optional<Transfers::Id> transfer{};  ///< while it is read; its version is pinned then
  bool cancelled = false;
};

/// Counts the request until its Done runs, or refuses it.
template <class T>
bool ObjectStore::admit(Done<T>& done) {
  if (requests_ >= max_store_requests) {
    done(error(Code::busy, "storage has too many requests under way; try again"));
    return false;
  }
  ++requests_;
  done = [this, done = std::move(done)](Result<T> result) {
    --requests_;
    done(std::move(result));
  };
  return true;
}

}  // namespace aios::storage
