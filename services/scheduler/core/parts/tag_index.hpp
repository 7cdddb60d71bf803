// What a tenant's tags mean: an unfinished task, or how a finished one ended. Looked up by the low
// 32 bits of the tag, as dependencies name them.
#pragma once

#include <tsl/robin_map.h>

#include <cstdint>
#include <deque>

#include "services/scheduler/core/parts/task_table.hpp"

namespace aios::scheduler {

class TagIndex {
 public:
  struct Entry {
    Slot slot = no_slot;  ///< of the unfinished task
    std::uint32_t stamp = 0;
    bool failed = false;  ///< how the finished one ended
  };

  /// Null when it means nothing. Valid until the next change.
  const Entry* find(std::uint32_t tag) const {
    const auto at = entries_.find(tag);
    return at == entries_.end() ? nullptr : &at->second;
  }
  /// Replaces a finished task's meaning of the tag.
  void add(std::uint32_t tag, Slot slot) { entries_[tag] = Entry{slot, 0, false}; }
  void finish(std::uint32_t tag, bool failed);
  /// Drops the oldest finished tag.
  void forget_oldest();
  std::uint32_t finished() const { return static_cast<std::uint32_t>(order_.size()); }

 private:
  struct Finished {
    std::uint32_t tag;
    std::uint32_t stamp;
  };
  tsl::robin_map<std::uint32_t, Entry> entries_;
  std::deque<Finished> order_;
  std::uint32_t next_stamp_ = 0;
};

}  // namespace aios::scheduler
