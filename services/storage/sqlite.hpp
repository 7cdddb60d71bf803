// SQLite with owned resources and errors as values.
#pragma once

#include <sqlite3.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "abi/runtime/status.hpp"

namespace aios::storage {

/// A prepared statement, for use by one Query at a time.
class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

 private:
  friend class Query;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// One execution of a statement; the statement is reset when it ends. Parameters and columns count
/// from 1 and 0 as in SQLite. What is bound must outlive the query.
class Query {
 public:
  explicit Query(Statement& statement) : statement_(statement.statement_.get()) {}
  ~Query() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  Query& text(int index, std::string_view value);
  Query& blob(int index, std::span<const std::byte> value);
  Query& number(int index, std::uint64_t value);

  /// True: a row is there. no_space, corrupt, busy, no_memory, too_large; otherwise io_error.
  Result<bool> step();
  /// Steps a statement that returns no rows.
  Result<> run();

  std::uint64_t number(int column) const;
  std::string text(int column) const;
  /// Valid until the next step.
  std::span<const std::byte> blob(int column) const;

 private:
  sqlite3_stmt* statement_;
};

class Database {
 public:
  /// `vfs` null means the usual one.
  static Result<Database> open(const std::string& path, const char* vfs);
  Result<Statement> prepare(const char* sql);
  Result<> execute(const char* sql);
  /// True while a transaction is open.
  bool in_transaction() const { return sqlite3_get_autocommit(database_.get()) == 0; }

 private:
  struct Close {
    void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
  };
  std::unique_ptr<sqlite3, Close> database_;
};

}  // namespace aios::storage
