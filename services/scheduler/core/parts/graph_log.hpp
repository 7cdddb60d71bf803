// The last graphs with a deadline that were accepted or refused, for `aiosctl graph list`.
#pragma once

#include <cstdint>
#include <deque>

#include "abi/proto/scheduler.hpp"
#include "services/scheduler/core/parts/limits.hpp"

namespace aios::scheduler {

class GraphLog {
 public:
  using Entry = proto::scheduler::GraphNext::Reply;

  /// A cleared entry but for its number, instead of the oldest. Valid until the next call.
  Entry& add(std::uint32_t user) {
    if (kept_.size() == max_logged_graphs) kept_.pop_front();
    kept_.push_back({{}, user});
    kept_.back().entry.number = ++last_;
    return kept_.back().entry;
  }
  /// Null when it is gone.
  Entry* find(std::uint64_t number) {
    const std::uint64_t first = last_ - kept_.size() + 1;
    return number < first || number > last_ ? nullptr : &kept_[number - first].entry;
  }
  /// The first after `after` that `user` may see; null at the end.
  const Entry* next(std::uint64_t after, std::uint32_t user, bool all_users) const {
    for (const Kept& kept : kept_)
      if (kept.entry.number > after && (all_users || kept.user == user)) return &kept.entry;
    return nullptr;
  }

 private:
  struct Kept {
    Entry entry;
    std::uint32_t user;
  };
  std::deque<Kept> kept_;
  std::uint64_t last_ = 0;
};

}  // namespace aios::scheduler
