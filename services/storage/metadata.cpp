#include "services/storage/metadata.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace aios::storage {
namespace {

constexpr std::uint64_t schema_version = 2;

namespace wire = proto::storage;

/// What is recorded of a remove_prefix after each of its slices.
struct RemovedSoFar {
  std::uint64_t count;
  std::uint64_t more;
};

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  static_assert(std::has_unique_object_representations_v<T>);
  return std::as_bytes(std::span(values));
}

template <class T>
Result<std::vector<T>> values_of(std::span<const std::byte> bytes) {
  if (bytes.size() % sizeof(T) != 0)
    return error(Code::corrupt, "metadata: a list of blocks is cut short");
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

ObjectInfo info_at(const Query& query, int column) {
  return {.size_bytes = query.number(column),
          .version = query.number(column + 1),
          .created_ns = query.number(column + 2),
          .checksum = query.number(column + 3)};
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::unexpected<Status> no_object(const ObjectKey& key) {
  return error(Code::not_found, "no object " + key.name);
}

/// What find() promises about an object, so that readers may rely on it.
bool is_consistent(const Object& object) {
  const std::uint64_t blocks = blocks_for(object.info.size_bytes);
  if (object.content.checksums.size() != blocks) return false;
  if (object.content.extents.empty())
    return object.content.inline_bytes.size() == object.info.size_bytes;
  std::uint64_t held = 0;
  for (const Extent& extent : object.content.extents) held += extent.blocks;
  return object.content.inline_bytes.empty() && held == blocks;
}

}  // namespace

Result<std::unique_ptr<Metadata>> Metadata::open(const std::string& path, std::uint64_t now_ns,
                                                 const char* vfs) {
  Database database = TRY(Database::open(path, vfs));
  std::unique_ptr<Metadata> out(new Metadata(std::move(database)));
  // Exclusive before WAL: then SQLite keeps the WAL's index in private memory.
  TRY(
      out->database_.execute("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;"
                             "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=16777216;"));
  TRY(out->make_tables());
  // So that a start reads the extents there are, and not every small value on the way.
  TRY(
      out->database_.execute("CREATE INDEX IF NOT EXISTS in_data_file ON contents(version) "
                             "WHERE length(extents) > 0"));
  TRY(out->prepare_all());
  TRY(out->load_totals());
  TRY(out->operations_.load(out->database_, now_ns));
  return out;
}

Result<> Metadata::make_tables() {
  Statement statement = TRY(database_.prepare("PRAGMA user_version"));
  std::uint64_t found = 0;
  {
    Query query(statement);
    if (TRY(query.step())) found = query.number(0);
  }
  if (found == schema_version) return {};
  const std::string operations =
      "BEGIN IMMEDIATE;" + std::string(Operations::tables) + "PRAGMA user_version = 2; COMMIT;";
  if (found == 1) return database_.execute(operations.c_str());
  if (found != 0)
    return error(Code::version_mismatch, "metadata: written by another version of AIOS (layout " +
                                             std::to_string(found) + ")");
  TRY(database_.execute(R"sql(
    BEGIN IMMEDIATE;
    CREATE TABLE objects(space TEXT NOT NULL, name BLOB NOT NULL, size INTEGER NOT NULL,
      version INTEGER NOT NULL, created_ns INTEGER NOT NULL, checksum INTEGER NOT NULL,
      PRIMARY KEY(space, name)) WITHOUT ROWID;
    CREATE TABLE contents(version INTEGER PRIMARY KEY, extents BLOB NOT NULL,
      checksums BLOB NOT NULL, bytes BLOB NOT NULL);
    CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO counters VALUES('next_version', 1);
    PRAGMA user_version = 1;
    COMMIT;
  )sql"));
  return database_.execute(operations.c_str());
}

Result<> Metadata::prepare_all() {
  Statements& s = statements_;
  s.stat =
      TRY(database_.prepare("SELECT size, version, created_ns, checksum FROM objects "
                            "WHERE space = ?1 AND name = ?2"));
  s.find = TRY(database_.prepare(
      "SELECT size, objects.version, created_ns, checksum, extents, checksums, bytes "
      "FROM objects LEFT JOIN contents ON contents.version = objects.version "
      "WHERE space = ?1 AND name = ?2"));
  s.list =
      TRY(database_.prepare("SELECT name, size, version, created_ns, checksum FROM objects "
                            "WHERE space = ?1 AND name >= ?2 ORDER BY name LIMIT ?3"));
  s.extents = TRY(database_.prepare("SELECT extents FROM contents WHERE length(extents) > 0"));
  s.content_extents = TRY(database_.prepare("SELECT extents FROM contents WHERE version = ?1"));
  s.insert_object = TRY(database_.prepare("INSERT INTO objects VALUES(?1, ?2, ?3, ?4, ?5, ?6)"));
  s.insert_content = TRY(database_.prepare("INSERT INTO contents VALUES(?1, ?2, ?3, ?4)"));
  s.delete_object = TRY(database_.prepare("DELETE FROM objects WHERE space = ?1 AND name = ?2"));
  s.delete_content = TRY(database_.prepare("DELETE FROM contents WHERE version = ?1"));
  s.rename = TRY(database_.prepare("UPDATE objects SET name = ?3 WHERE space = ?1 AND name = ?2"));
  s.set_counter =
      TRY(database_.prepare("UPDATE counters SET value = ?1 WHERE name = 'next_version'"));
  s.free_pages =
      TRY(database_.prepare("SELECT freelist_count * page_size FROM "
                            "pragma_freelist_count, pragma_page_size"));
  return {};
}

Result<> Metadata::load_reusable_bytes() {
  Query query(statements_.free_pages);
  if (TRY(query.step())) reusable_bytes_ = query.number(0);
  return {};
}

Result<> Metadata::load_totals() {
  Statement totals = TRY(database_.prepare("SELECT count(*), coalesce(sum(size), 0) FROM objects"));
  Statement counter = TRY(database_.prepare("SELECT value FROM counters"));
  Query sum(totals);
  if (TRY(sum.step())) totals_ = {.objects = sum.number(0), .stored_bytes = sum.number(1)};
  Query version(counter);
  if (TRY(version.step())) next_version_ = version.number(0);
  return load_reusable_bytes();
}

Result<> Metadata::for_each_extent(const std::function<Result<>(const Extent&)>& visit) {
  Query query(statements_.extents);
  while (TRY(query.step()))
    for (const Extent& extent : TRY(values_of<Extent>(query.blob(0)))) TRY(visit(extent));
  return {};
}

Result<ObjectInfo> Metadata::stat(const ObjectKey& key) {
  Query query(statements_.stat);
  query.text(1, key.space).blob(2, as_bytes(key.name));
  if (!TRY(query.step())) return no_object(key);
  return info_at(query, 0);
}

Result<Object> Metadata::find(const ObjectKey& key) {
  Query query(statements_.find);
  query.text(1, key.space).blob(2, as_bytes(key.name));
  if (!TRY(query.step())) return no_object(key);
  Object object{.info = info_at(query, 0)};
  object.content.extents = TRY(values_of<Extent>(query.blob(4)));
  object.content.checksums = TRY(values_of<std::uint64_t>(query.blob(5)));
  object.content.inline_bytes = TRY(values_of<std::byte>(query.blob(6)));
  if (!is_consistent(object))
    return error(Code::corrupt, "metadata: the blocks of " + key.name + " do not add up");
  return object;
}

Result<std::vector<ListedObject>> Metadata::list(const ObjectKey& prefix, std::string_view after,
                                                 std::uint32_t limit) {
  // The least name greater than `after` is `after` and a NUL.
  const std::string from =
      after >= prefix.name && !after.empty() ? std::string(after) + '\0' : prefix.name;
  Query query(statements_.list);
  query.text(1, prefix.space).blob(2, as_bytes(from)).number(3, limit);
  std::vector<ListedObject> found;
  while (TRY(query.step())) {
    const std::string_view name = as_text(query.blob(0));
    if (!name.starts_with(prefix.name)) break;
    found.push_back({std::string(name), info_at(query, 1)});
  }
  return found;
}

Result<std::vector<Displaced>> Metadata::commit(std::vector<Change>& changes) {
  const Totals totals_before = totals_;
  const std::uint64_t next_version_before = next_version_;
  std::vector<Displaced> displaced;
  Result<> done = database_.execute("BEGIN IMMEDIATE");
  if (done) done = apply_all(changes, displaced);
  if (done) done = load_reusable_bytes();
  if (done) done = database_.execute("COMMIT");
  if (done) return displaced;
  totals_ = totals_before;
  next_version_ = next_version_before;
  if (database_.in_transaction())
    if (Result<> undone = database_.execute("ROLLBACK"); !undone)
      return error(Code::io_error, "cannot undo a failed commit: " + undone.error().message());
  return std::unexpected(done.error());
}

Result<> Metadata::apply_all(std::vector<Change>& changes, std::vector<Displaced>& displaced) {
  const std::uint64_t next_version_before = next_version_;
  for (Change& change : changes)
    TRY(std::visit([&](auto& one) { return apply(one, displaced); }, change));
  if (next_version_ == next_version_before) return {};
  return Query(statements_.set_counter).number(1, next_version_).run();
}

template <class M, class C, class Answer>
Result<bool> Metadata::begin(C& change, const std::string& space, Answer& answer) {
  static_assert(std::has_unique_object_representations_v<Answer>);
  if (!change.operation) return true;
  auto made = operations_.begin(space, *change.operation, M::opcode);
  const bool refused = !made && (made.error().code() == Code::indeterminate ||
                                 made.error().code() == Code::invalid_argument);
  if (refused) change.refused = made.error();
  if (refused) return false;
  if (!made) return std::unexpected(made.error());
  if (!*made) return true;
  if ((*made)->size() != sizeof answer)
    return error(Code::corrupt, "metadata: a recorded answer has the wrong size");
  std::memcpy(&answer, (*made)->data(), sizeof answer);
  return false;
}

template <class M, class Answer>
Result<> Metadata::record(const std::optional<Operation>& operation, const std::string& space,
                          const Answer& answer) {
  if (!operation) return {};
  return operations_.record(space, *operation, M::opcode, std::as_bytes(std::span(&answer, 1)));
}

Result<std::optional<ObjectInfo>> Metadata::put_made_before(const ObjectKey& key,
                                                            const Operation& operation) {
  const auto made = TRY(operations_.find(key.space, operation, wire::Put::opcode));
  if (!made) return std::optional<ObjectInfo>();
  ObjectInfo info{};
  if (made->size() != sizeof info)
    return error(Code::corrupt, "metadata: a recorded answer has the wrong size");
  std::memcpy(&info, made->data(), sizeof info);
  return info;
}

Result<> Metadata::apply(PutChange& change, std::vector<Displaced>& displaced) {
  const ObjectInfo& info = change.object->info;
  ObjectInfo before{};
  if (!TRY(begin<wire::Put>(change, change.key.space, before))) {
    if (!change.refused) change.made_before = before;
    return {};
  }
  TRY(record<wire::Put>(change.operation, change.key.space, info));
  TRY(displace(change.key, displaced));
  const Content& content = change.object->content;
  TRY(Query(statements_.insert_object)
          .text(1, change.key.space)
          .blob(2, as_bytes(change.key.name))
          .number(3, info.size_bytes)
          .number(4, info.version)
          .number(5, info.created_ns)
          .number(6, info.checksum)
          .run());
  TRY(Query(statements_.insert_content)
          .number(1, info.version)
          .blob(2, bytes_of(content.extents))
          .blob(3, bytes_of(content.checksums))
          .blob(4, bytes_of(content.inline_bytes))
          .run());
  next_version_ = std::max(next_version_, info.version + 1);
  totals_.objects += 1;
  totals_.stored_bytes += info.size_bytes;
  return {};
}

Result<> Metadata::apply(RemoveChange& change, std::vector<Displaced>& displaced) {
  proto::Empty before{};
  if (!TRY(begin<wire::Remove>(change, change.key.space, before))) {
    change.found = true;
    return {};
  }
  change.found = TRY(displace(change.key, displaced));
  // One that found nothing changed nothing, and may look again.
  return change.found ? record<wire::Remove>(change.operation, change.key.space, before)
                      : Result<>();
}

Result<> Metadata::apply(RenameChange& change, std::vector<Displaced>& displaced) {
  proto::Empty before{};
  if (!TRY(begin<wire::Rename>(change, change.from.space, before))) {
    change.found = true;
    return {};
  }
  const Result<ObjectInfo> source = stat(change.from);
  change.found = source.has_value();
  if (!change.found && source.error().code() != Code::not_found)
    return std::unexpected(source.error());
  if (!change.found || change.from.name == change.to) return {};
  TRY(record<wire::Rename>(change.operation, change.from.space, before));
  TRY(displace({change.from.space, change.to}, displaced));
  return Query(statements_.rename)
      .text(1, change.from.space)
      .blob(2, as_bytes(change.from.name))
      .blob(3, as_bytes(change.to))
      .run();
}

Result<> Metadata::apply(RemovePrefixChange& change, std::vector<Displaced>& displaced) {
  RemovedSoFar before{change.count, 1};
  const bool made = !TRY(begin<wire::RemovePrefix>(change, change.prefix.space, before));
  change.count = before.count;
  if (change.refused || (made && before.more == 0)) return {};
  const std::vector<ListedObject> found = TRY(list(change.prefix, {}, remove_slice));
  for (const ListedObject& object : found)
    TRY(displace({change.prefix.space, object.name}, displaced));
  change.count += found.size();
  change.more = found.size() == remove_slice;
  return record<wire::RemovePrefix>(change.operation, change.prefix.space,
                                    RemovedSoFar{change.count, change.more ? 1u : 0u});
}

Result<bool> Metadata::displace(const ObjectKey& key, std::vector<Displaced>& displaced) {
  const Result<ObjectInfo> old = stat(key);
  if (!old && old.error().code() == Code::not_found) return false;
  if (!old) return std::unexpected(old.error());
  {
    Query query(statements_.content_extents);
    query.number(1, old->version);
    if (TRY(query.step())) {
      std::vector<Extent> extents = TRY(values_of<Extent>(query.blob(0)));
      if (!extents.empty()) displaced.push_back({old->version, std::move(extents)});
    }
  }
  TRY(Query(statements_.delete_content).number(1, old->version).run());
  TRY(Query(statements_.delete_object).text(1, key.space).blob(2, as_bytes(key.name)).run());
  totals_.objects -= 1;
  totals_.stored_bytes -= old->size_bytes;
  return true;
}

}  // namespace aios::storage
