// One tenant's ready tasks, best rank first. The best few are kept sorted, to be walked over when
// the first ones wait for a busy device; of the others those that came in the order of their ranks,
// mostly all, lie in a row and the rest in a heap. A task that leaves out of turn (cancelled) is
// only counted; its entry is dropped when it comes to the sorted part, or when such entries are the
// majority.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <deque>
#include <memory_resource>
#include <vector>

#include "services/scheduler/core/parts/task_table.hpp"
#include "services/scheduler/policy/order.hpp"

namespace aios::scheduler {

class ReadyQueue {
 public:
  /// How many can be walked over.
  static constexpr std::uint32_t window = 64;

  struct Entry {
    Rank rank;
    TaskRef task;
  };

  explicit ReadyQueue(std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : row_(memory) {}

  bool empty() const { return live_ == 0; }
  std::uint32_t size() const { return live_; }

  void push(Rank rank, TaskRef task) {
    ++live_;
    const Entry entry{rank, task};
    if (rest_is_empty() && front_.size() == first_) {
      front_.clear();
      first_ = 0;
      front_.push_back(entry);
    } else if (front_.size() > first_ && rank < front_.back().rank) {
      front_.insert(std::upper_bound(front_.begin() + first_, front_.end(), entry, earlier), entry);
      if (front_.size() - first_ <= window) return;
      push_rest(front_.back());
      front_.pop_back();
    } else if (rest_is_empty() && front_.size() - first_ < window) {
      front_.push_back(entry);
    } else {
      push_rest(entry);
    }
  }
  /// The entry with `index` better ones before it; null when there is none, or from `window` on.
  const Entry* peek(std::uint32_t index, const TaskTable& tasks) {
    const std::size_t at = first_ + index;
    if (at < front_.size() && index < window && is_live(front_[at], tasks)) return &front_[at];
    return find(index, tasks);
  }
  /// Must not be empty.
  const Entry& top(const TaskTable& tasks) {
    const Entry* entry = peek(0, tasks);
    assert(entry != nullptr);
    return *entry;
  }
  /// Takes away what `peek` returned for this index.
  void take(std::uint32_t index, const TaskTable& tasks) {
    --live_;
    // By the time that one is given to a context, and those that wait for it are looked at.
    if (const std::size_t after = first_ + index + 2; after < front_.size())
      tasks.prefetch_successor(front_[after].task.slot);
    if (index > 0) {
      front_.erase(front_.begin() + first_ + index);
    } else if (++first_ == front_.size() || first_ >= window) {
      front_.erase(front_.begin(), front_.begin() + first_);
      first_ = 0;
    }
  }
  /// A task of this queue is ready no longer.
  void left(const TaskTable& tasks) {
    --live_;
    if (front_.size() - first_ + row_.size() + heap_.size() <= 2 * std::size_t{live_} + window)
      return;
    const auto dead = [&](const Entry& e) { return !is_live(e, tasks); };
    front_.erase(front_.begin(), front_.begin() + first_);
    first_ = 0;
    std::erase_if(front_, dead);
    std::erase_if(row_, dead);
    std::erase_if(heap_, dead);
    std::make_heap(heap_.begin(), heap_.end(), later);
  }

 private:
  static bool earlier(const Entry& a, const Entry& b) { return a.rank < b.rank; }
  static bool later(const Entry& a, const Entry& b) { return b.rank < a.rank; }
  static bool is_live(const Entry& e, const TaskTable& tasks) {
    const Task* task = tasks.find(e.task);
    return task != nullptr && task->state == State::ready;
  }
  const Entry* find(std::uint32_t index, const TaskTable& tasks) {
    if (index >= window) return nullptr;
    while (true) {
      while (front_.size() - first_ <= index) {
        if (rest_is_empty()) return nullptr;
        refill(tasks);
      }
      if (is_live(front_[first_ + index], tasks)) return &front_[first_ + index];
      front_.erase(front_.begin() + first_ + index);
    }
  }
  bool rest_is_empty() const { return row_.empty() && heap_.empty(); }
  void push_rest(const Entry& entry) {
    if (row_.empty() || !earlier(entry, row_.back())) return row_.push_back(entry);
    heap_.push_back(entry);
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  /// Several at a time, so that their tasks are there when they are looked at.
  void refill(const TaskTable& tasks) {
    for (int i = 0; i < 4 && !rest_is_empty() && front_.size() - first_ < window; ++i) {
      if (heap_.empty() || (!row_.empty() && !earlier(heap_.front(), row_.front()))) {
        front_.push_back(row_.front());
        row_.pop_front();
      } else {
        std::pop_heap(heap_.begin(), heap_.end(), later);
        front_.push_back(heap_.back());
        heap_.pop_back();
      }
      tasks.prefetch(front_.back().task.slot);
    }
  }

  /// From `first_` on sorted, all better than the rest.
  std::vector<Entry> front_;
  std::uint32_t first_ = 0;
  std::pmr::deque<Entry> row_;  ///< sorted
  std::vector<Entry> heap_;     ///< the best first
  std::uint32_t live_ = 0;
};

}  // namespace aios::scheduler
