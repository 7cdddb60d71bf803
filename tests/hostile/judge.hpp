// What must be true of an instance after hostile peers have gone: no server ended, nothing is left
// of the peers, no log tells of a crash.
#pragma once

#include <map>
#include <string>

#include "abi/runtime/status.hpp"
#include "tests/support/test_instance.hpp"

namespace aios::hostile {

/// What an instance holds. Comparable while its clients rest.
struct Holdings {
  std::uint64_t processes = 0;
  std::uint64_t links = 0;
  std::uint64_t regions = 0;
  std::uint64_t region_bytes = 0;
  std::uint64_t kernel_fds = 0;
  struct Server {
    std::uint64_t epoch = 0;
    std::uint64_t restarts = 0;
    std::uint64_t handles = 0;
    std::uint64_t links = 0;
    std::uint64_t fds = 0;
  };
  std::map<std::string, Server> servers;  ///< the supervisor is one of them
};
Result<Holdings> holdings_of(test::TestInstance& instance);

class Judge {
 public:
  explicit Judge(test::TestInstance& instance) : instance_(instance) {}
  /// What the instance holds now is what it may hold later.
  Result<void> begin();
  /// Waits until it holds no more than that; an error that lists what it holds too much.
  Result<void> nothing_left();
  /// A line of a log that tells of a crash, or that a server ended; empty when there is none.
  std::string crash_in_logs() const;

 private:
  test::TestInstance& instance_;
  Holdings baseline_;
};

}  // namespace aios::hostile
