// Who has had how much of the devices' time, so that whoever had least comes next (stride
// scheduling). The time that tasks are expected to hold their slots is charged when they take them,
// and put right when they give them back: who runs long tasks gets fewer of them.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>

namespace aios::scheduler {

class FairShare {
 public:
  /// Less comes sooner. Those that had equally much take turns.
  struct Place {
    std::int64_t used_ns = 0;
    std::uint64_t turn = 0;
    auto operator<=>(const Place&) const = default;
  };

  Place place() const { return {used_ns_, turn_}; }
  /// It has had nothing to do until now. What it did not use meanwhile is lost: others are not
  /// kept waiting for it. `others_ns` is what those had who were served last.
  void wakes(std::int64_t others_ns) { used_ns_ = std::max(used_ns_, others_ns); }
  /// A task of it starts; turns are counted over all.
  void starts(std::uint64_t turn) { turn_ = turn; }
  void charge(std::int64_t ns) { used_ns_ += ns; }

 private:
  std::int64_t used_ns_ = 0;
  std::uint64_t turn_ = 0;
};

}  // namespace aios::scheduler
