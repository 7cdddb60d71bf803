// What the store holds: a SQLite database of names, versions, extents, checksums and small values.
//
// One connection, used by one thread at a time: the server's loop, or its Background while a commit
// runs. Every call may wait for the disk.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "services/storage/extents.hpp"
#include "services/storage/names.hpp"
#include "services/storage/operations.hpp"
#include "services/storage/sqlite.hpp"

namespace aios::storage {

using proto::storage::ObjectInfo;

/// Values up to this size live in the database, larger ones in the data file.
inline constexpr std::uint64_t max_inline_bytes = 16u << 10;
/// A remove_prefix is done in slices of this many objects, one transaction each.
inline constexpr std::uint32_t remove_slice = 1024;

/// Where an object's bytes are. Exactly one of the two is filled, none when the object is empty.
struct Content {
  std::vector<Extent> extents;
  std::vector<std::byte> inline_bytes;
  std::vector<std::uint64_t> checksums;  ///< per block
};

struct Object {
  ObjectInfo info;
  Content content;
};

struct ListedObject {
  std::string name;
  ObjectInfo info;
};

/// Changes, each with what its commit found. With an `operation` one that was made already is not
/// made again: what that found then is in its place.
struct PutChange {
  ObjectKey key;
  const Object* object;
  std::optional<Operation> operation{};
  std::optional<ObjectInfo> made_before{};
  std::optional<Status> refused{};  ///< by Operations::begin
};
struct RemoveChange {
  ObjectKey key;
  std::optional<Operation> operation{};
  bool found = false;
  std::optional<Status> refused{};
};
struct RenameChange {
  ObjectKey from;
  std::string to;
  std::optional<Operation> operation{};
  bool found = false;
  std::optional<Status> refused{};
};
struct RemovePrefixChange {
  ObjectKey prefix;  ///< `name` is the prefix
  std::optional<Operation> operation{};
  std::uint64_t count = 0;  ///< with the slices before this one
  bool more = false;
  std::optional<Status> refused{};
};
using Change = std::variant<PutChange, RemoveChange, RenameChange, RemovePrefixChange>;

/// An object that a commit made unreachable.
struct Displaced {
  std::uint64_t version;
  std::vector<Extent> extents;
};

struct Totals {
  std::uint64_t objects = 0;
  std::uint64_t stored_bytes = 0;
};

class Metadata {
 public:
  /// Opens or makes `path` and recovers it. `now_ns` is CLOCK_MONOTONIC. `vfs` names a SQLite VFS,
  /// null the usual one. corrupt; busy when another process has it; no_space; version_mismatch;
  /// io_error.
  static Result<std::unique_ptr<Metadata>> open(const std::string& path, std::uint64_t now_ns,
                                                const char* vfs = nullptr);
  Metadata(const Metadata&) = delete;
  Metadata& operator=(const Metadata&) = delete;

  /// Shows `visit` every extent that an object owns. io_error; corrupt; what `visit` returns.
  Result<> for_each_extent(const std::function<Result<>(const Extent&)>& visit);
  /// Above every version ever committed.
  std::uint64_t next_version() const { return next_version_; }
  const Totals& totals() const { return totals_; }
  /// What new metadata can fill before the database grows.
  std::uint64_t reusable_bytes() const { return reusable_bytes_; }

  /// not_found; corrupt; io_error.
  Result<ObjectInfo> stat(const ObjectKey& key);
  Result<Object> find(const ObjectKey& key);

  /// What a put answered that was made already. corrupt; io_error; invalid_argument.
  Result<std::optional<ObjectInfo>> put_made_before(const ObjectKey& key,
                                                    const Operation& operation);

  /// At most `limit` objects in the order of their names.
  Result<std::vector<ListedObject>> list(const ObjectKey& prefix, std::string_view after,
                                         std::uint32_t limit);

  /// Applies the changes in order, all or none, and makes them durable; `changes` then say what
  /// they found, and the result is what they displaced. no_space and too_large leave the store
  /// as it was and usable; after any other error nobody knows what is durable, and the process must
  /// end and recover.
  Result<std::vector<Displaced>> commit(std::vector<Change>& changes);

 private:
  struct Statements {
    Statement stat, find, list, extents, content_extents, insert_object, insert_content,
        delete_object, delete_content, rename, set_counter, free_pages;
  };
  explicit Metadata(Database database) : database_(std::move(database)) {}

  Result<> make_tables();
  Result<> prepare_all();
  Result<> load_totals();
  Result<> load_reusable_bytes();
  Result<> apply_all(std::vector<Change>& changes, std::vector<Displaced>& displaced);
  Result<> apply(PutChange& change, std::vector<Displaced>& displaced);
  Result<> apply(RemoveChange& change, std::vector<Displaced>& displaced);
  Result<> apply(RenameChange& change, std::vector<Displaced>& displaced);
  Result<> apply(RemovePrefixChange& change, std::vector<Displaced>& displaced);
  /// Removes an object; false when there is none.
  Result<bool> displace(const ObjectKey& key, std::vector<Displaced>& displaced);

  /// True: `change` is to be made now. Otherwise `answer` is what it found before, or it is
  /// refused.
  template <class M, class C, class Answer>
  Result<bool> begin(C& change, const std::string& space, Answer& answer);
  template <class M, class Answer>
  Result<> record(const std::optional<Operation>& operation, const std::string& space,
                  const Answer& answer);

  Database database_;
  Statements statements_;  // after the database: they end first
  Operations operations_;
  std::uint64_t next_version_ = 1;
  Totals totals_;
  std::uint64_t reusable_bytes_ = 0;
};

}  // namespace aios::storage
