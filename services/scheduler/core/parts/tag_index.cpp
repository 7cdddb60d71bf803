#include "services/scheduler/core/parts/tag_index.hpp"

#include <cassert>

namespace aios::scheduler {

void TagIndex::finish(std::uint32_t tag, bool failed) {
  const std::uint32_t stamp = ++next_stamp_;
  entries_[tag] = Entry{no_slot, stamp, failed};
  order_.push_back({tag, stamp});
}

void TagIndex::forget_oldest() {
  assert(!order_.empty());
  const Finished oldest = order_.front();
  order_.pop_front();
  const auto at = entries_.find(oldest.tag);
  // The tag may mean a later task by now.
  if (at != entries_.end() && at->second.slot == no_slot && at->second.stamp == oldest.stamp)
    entries_.erase(at);
}

}  // namespace aios::scheduler
