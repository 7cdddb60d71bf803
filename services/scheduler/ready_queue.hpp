// One tenant's ready tasks, best rank first. A task that leaves out of turn (cancelled) is only
// counted; its entry is dropped when it comes to the top, or when such entries are the majority.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "services/scheduler/order.hpp"
#include "services/scheduler/task_table.hpp"

namespace aios::scheduler {

class ReadyQueue {
 public:
  struct Entry {
    Rank rank;
    TaskRef task;
  };

  bool empty() const { return live_ == 0; }
  std::uint32_t size() const { return live_; }

  void push(Rank rank, TaskRef task) {
    heap_.push_back({rank, task});
    std::push_heap(heap_.begin(), heap_.end(), later);
    ++live_;
  }
  /// Must not be empty.
  const Entry& top(const TaskTable& tasks) {
    while (!is_live(heap_.front(), tasks)) drop_top();
    return heap_.front();
  }
  /// Takes away what `top` returned.
  void pop() {
    drop_top();
    --live_;
  }
  /// A task of this queue is ready no longer.
  void left(const TaskTable& tasks) {
    --live_;
    if (heap_.size() <= 2 * std::size_t{live_} + slack) return;
    std::erase_if(heap_, [&](const Entry& e) { return !is_live(e, tasks); });
    std::make_heap(heap_.begin(), heap_.end(), later);
  }

 private:
  static constexpr std::size_t slack = 64;
  static bool later(const Entry& a, const Entry& b) { return b.rank < a.rank; }
  static bool is_live(const Entry& e, const TaskTable& tasks) {
    const Task* task = tasks.find(e.task);
    return task != nullptr && task->state == State::ready;
  }
  void drop_top() {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    heap_.pop_back();
  }

  std::vector<Entry> heap_;
  std::uint32_t live_ = 0;
};

}  // namespace aios::scheduler
