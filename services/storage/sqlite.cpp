#include "services/storage/sqlite.hpp"

namespace aios::storage {
namespace {

std::unexpected<Status> failure(sqlite3* database, int result) {
  const std::string text = std::string("metadata: ") + sqlite3_errmsg(database);
  switch (result & 0xff) {
    case SQLITE_FULL:
      return error(Code::no_space, text);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return error(Code::corrupt, text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return error(Code::busy, text);
    case SQLITE_NOMEM:
      return error(Code::no_memory, text);
    case SQLITE_TOOBIG:
      return error(Code::too_large, text);
    default:
      return error(Code::io_error, text);
  }
}

}  // namespace

Query& Query::text(int index, std::string_view value) {
  sqlite3_bind_text64(statement_, index, value.data(), value.size(), SQLITE_STATIC, SQLITE_UTF8);
  return *this;
}

Query& Query::blob(int index, std::span<const std::byte> value) {
  // A null pointer would bind NULL.
  const void* bytes = value.empty() ? "" : static_cast<const void*>(value.data());
  sqlite3_bind_blob64(statement_, index, bytes, value.size(), SQLITE_STATIC);
  return *this;
}

Query& Query::number(int index, std::uint64_t value) {
  sqlite3_bind_int64(statement_, index, static_cast<sqlite3_int64>(value));
  return *this;
}

Result<bool> Query::step() {
  const int result = sqlite3_step(statement_);
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  return failure(sqlite3_db_handle(statement_), result);
}

Result<> Query::run() {
  TRY(step());
  return {};
}

std::uint64_t Query::number(int column) const {
  return static_cast<std::uint64_t>(sqlite3_column_int64(statement_, column));
}

std::string Query::text(int column) const {
  const auto bytes = blob(column);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> Query::blob(int column) const {
  const auto* bytes = static_cast<const std::byte*>(sqlite3_column_blob(statement_, column));
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

Result<Database> Database::open(const std::string& path, const char* vfs) {
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int result = sqlite3_open_v2(path.c_str(), &raw, flags, vfs);
  Database out;
  out.database_.reset(raw);
  if (result != SQLITE_OK) return failure(raw, result);
  sqlite3_extended_result_codes(raw, 1);
  return out;
}

Result<Statement> Database::prepare(const char* sql) {
  sqlite3_stmt* raw = nullptr;
  const int result =
      sqlite3_prepare_v3(database_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
  if (result != SQLITE_OK) return failure(database_.get(), result);
  return Statement(raw);
}

Result<> Database::execute(const char* sql) {
  const int result = sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr);
  if (result != SQLITE_OK) return failure(database_.get(), result);
  return {};
}

}  // namespace aios::storage
