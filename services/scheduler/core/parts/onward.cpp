#include "services/scheduler/core/parts/onward.hpp"

namespace aios::scheduler {

void Onward::begin(Slot slot, std::uint32_t memories) {
  if (memories_ != memories) ways_.clear();
  memories_ = memories;
  const std::size_t end = (std::size_t{slot} + 1) * memories;
  if (ways_.size() < end) ways_.resize(end);
  std::fill_n(ways_.begin() + static_cast<std::ptrdiff_t>(end - memories), memories,
              Way{0, std::numeric_limits<float>::infinity()});
}

void Onward::follow(Slot slot, Slot successor, double moved_ns, bool copies_back) {
  const std::size_t next_at = std::size_t{successor} * memories_;
  if (next_at >= ways_.size()) return;
  Way* const here = &ways_[std::size_t{slot} * memories_];
  const Way* const next = &ways_[next_at];
  float elsewhere = std::numeric_limits<float>::infinity();
  for (MemoryId m = 0; m < memories_; ++m) elsewhere = std::min(elsewhere, next[m].from);
  elsewhere += static_cast<float>(moved_ns);
  if (copies_back) elsewhere = std::min(elsewhere, next[host_memory].from);
  for (MemoryId m = 0; m < memories_; ++m) {
    const float way = std::min(next[m].from, elsewhere);
    if (way < std::numeric_limits<float>::infinity()) here[m].after = std::max(here[m].after, way);
  }
}

void Onward::runs_in(Slot slot, MemoryId memory, double takes_ns) {
  Way& way = ways_[std::size_t{slot} * memories_ + memory];
  way.from = std::min(way.from, way.after + static_cast<float>(takes_ns));
}

void Onward::runs_nowhere(Slot slot) {
  for (MemoryId m = 0; m < memories_; ++m) {
    Way& way = ways_[std::size_t{slot} * memories_ + m];
    way.from = way.after;
  }
}

}  // namespace aios::scheduler
