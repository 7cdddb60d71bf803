// The last placements: what was known when a task was placed, and what came of it. For
// `aiosctl explain`, `bottlenecks` and `trace`; nothing is decided by it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "abi/proto/scheduler.hpp"

namespace aios::scheduler {

class PlacementLog {
 public:
  using Entry = proto::scheduler::PlacementNext::Reply;
  static constexpr std::size_t capacity = 8192;

  /// A cleared entry but for its sequence, instead of the oldest. Valid until the next call.
  Entry& add(std::uint32_t user);
  /// Null when it is gone.
  Entry* find(std::uint64_t sequence);
  /// The first after `after` that `user` may see; null at the end.
  const Entry* next(std::uint64_t after, std::uint32_t user, bool all_users) const;
  /// The last one of that task.
  const Entry* of_task(std::uint64_t number, std::uint32_t user, bool all_users) const;

 private:
  struct Kept {
    Entry entry{};
    std::uint32_t user = 0;
  };
  const Kept* kept(std::uint64_t sequence) const;

  std::vector<Kept> ring_;
  std::uint64_t last_ = 0;
};

}  // namespace aios::scheduler
