// What a campaign did, for people and as JSON.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/fault/injector.hpp"

namespace aios::fault {

struct Report {
  std::uint64_t seed = 0;
  std::string commit;
  std::string disk;  ///< "ext4", "tmpfs" or empty
  double seconds = 0;
  std::uint64_t longest_flush_ns = 0;  ///< of the disk, seen by somebody who is not AIOS
  std::uint64_t hung_with_disk = 0;    ///< servers that were taken for hung meanwhile
  std::array<Count, kind_count> counts{};
  RecoveryTimes recovery;
  struct Work {
    std::string name;
    std::uint64_t calls;
    std::uint64_t right;
    std::map<std::string, std::uint64_t> failures;
  };
  std::vector<Work> work;
  std::vector<std::string> breaches;
};

void print_text(const Report& report);
void print_json(const Report& report);
/// The kinds, what makes each activated, and what is promised.
void print_kinds();

}  // namespace aios::fault
