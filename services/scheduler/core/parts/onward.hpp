// How long the way is from the end of a task to the end of all that depends on it, by the memory in
// which the task leaves its data: with each of them where that is shortest, and no device busy with
// anything else (MODELS.md). Who places a task without it does not see that what it wins there is
// lost when its data is fetched again.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "services/scheduler/core/parts/memories.hpp"
#include "services/scheduler/core/parts/task_table.hpp"

namespace aios::scheduler {

class Onward {
 public:
  /// Of a task anew: `follow` for each that depends on it, of which all is known already, then
  /// `runs_in` for each device that may run it, or `runs_nowhere`. In that many memories.
  void begin(Slot slot, std::uint32_t memories);
  /// `moved_ns` is what it takes to bring there what the first leaves behind for the other; nothing
  /// to the host's memory where everything is copied back to it.
  void follow(Slot slot, Slot successor, double moved_ns, bool copies_back);
  void runs_in(Slot slot, MemoryId memory, double takes_ns);
  void runs_nowhere(Slot slot);

  double after_ns(Slot slot, MemoryId memory) const {
    const std::size_t at = std::size_t{slot} * memories_ + memory;
    return at < ways_.size() && memory < memories_ ? ways_[at].after : 0;
  }

 private:
  struct Way {
    float after = 0;  ///< from its end
    float from = 0;   ///< from its start, if it runs there
  };

  std::vector<Way> ways_;  ///< by slot and memory
  std::uint32_t memories_ = 0;
};

}  // namespace aios::scheduler
