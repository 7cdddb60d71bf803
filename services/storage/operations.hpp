// Which changes were made already, so that a client that asks again, because it never saw the
// answer, gets that answer and not a second change.
//
// A change's answer is recorded in the transaction that makes it, under the id that the client gave
// it: (namespace, session, sequence). It goes when the client acknowledges it, or with its session:
// when that was silent for `session_lease_ns`, or was silent longest among too many. A repeated
// change that is not recorded was never made, unless its record may have gone: then nobody knows.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "abi/proto/storage.hpp"
#include "services/storage/sqlite.hpp"

namespace aios::storage {

inline constexpr std::uint64_t session_lease_ns = 600'000'000'000;
inline constexpr std::size_t max_sessions_per_space = 256;

/// A client's name for a change, and when its request came (CLOCK_MONOTONIC).
struct Operation {
  proto::storage::Operation id;
  std::uint64_t now_ns;
};

class Operations {
 public:
  static constexpr const char* tables = R"sql(
    CREATE TABLE operations(space TEXT NOT NULL, session INTEGER NOT NULL,
      sequence INTEGER NOT NULL, kind INTEGER NOT NULL, answer BLOB NOT NULL,
      PRIMARY KEY(space, session, sequence)) WITHOUT ROWID;
    CREATE TABLE forgotten(space TEXT PRIMARY KEY, at_ns INTEGER NOT NULL) WITHOUT ROWID;
  )sql";

  /// Reads what is there; the leases of its sessions begin anew.
  Result<> load(Database& database, std::uint64_t now_ns);

  /// Within a transaction. Notes that the session lives and forgets what it acknowledges, and what
  /// others have left behind. The answer when the change was made already; nothing when it is to be
  /// made now. indeterminate when it may have been made; invalid_argument when the id was given to
  /// a change of another kind. Other errors are those of the database.
  Result<std::optional<std::vector<std::byte>>> begin(const std::string& space,
                                                      const Operation& operation,
                                                      std::uint16_t kind);
  /// Within the same transaction: the change was made, or one more part of it.
  Result<> record(const std::string& space, const Operation& operation, std::uint16_t kind,
                  std::span<const std::byte> answer);
  /// The answer of a change that was made already. io_error; corrupt.
  Result<std::optional<std::vector<std::byte>>> find(const std::string& space,
                                                     const Operation& operation,
                                                     std::uint16_t kind);

  std::size_t sessions(const std::string& space) const;

 private:
  struct Session {
    std::uint64_t number;
    std::uint64_t since_ns;  ///< since when nothing of it was forgotten
    std::uint64_t last_ns;
  };
  struct Space {
    std::list<Session> by_age;  ///< longest silent first
    std::map<std::uint64_t, std::list<Session>::iterator> by_number;
    std::uint64_t forgotten_ns = 0;  ///< when one of its sessions was forgotten last; 0: never
  };
  static Session& touch(Space& space, std::uint64_t session, std::uint64_t now_ns);
  Result<> forget_old(const std::string& name, Space& space, std::uint64_t now_ns);

  std::map<std::string, Space, std::less<>> spaces_;
  Statement find_, insert_, acknowledge_, forget_, note_;
};

}  // namespace aios::storage
