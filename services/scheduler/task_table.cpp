#include "services/scheduler/task_table.hpp"

#include <cassert>

#include "services/scheduler/limits.hpp"

namespace aios::scheduler {

using proto::scheduler::max_dependencies;
static_assert(std::uint64_t{max_tasks} * max_dependencies < no_slot);

Slot TaskTable::allocate() {
  if (!free_.empty()) {
    const Slot slot = free_.back();
    free_.pop_back();
    return slot;
  }
  assert(tasks_.size() < max_tasks);
  tasks_.emplace_back();
  return static_cast<Slot>(tasks_.size() - 1);
}

void TaskTable::release(Slot slot) {
  assert(tasks_[slot].first_successor == no_slot);
  static_cast<TaskFacts&>(tasks_[slot]) = {};
  free_.push_back(slot);
}

void TaskTable::add_dependency(Slot slot, Slot predecessor) {
  Task& task = tasks_[slot];
  assert(task.edges < max_dependencies && slot != predecessor);
  task.next_edge[task.edges] = tasks_[predecessor].first_successor;
  task.predecessors[task.edges] = predecessor;
  tasks_[predecessor].first_successor = slot * max_dependencies + task.edges;
  ++task.edges;
  ++task.remaining;
}

void TaskTable::take_successors(Slot slot, std::vector<Slot>& out) {
  std::uint32_t edge = std::exchange(tasks_[slot].first_successor, no_slot);
  while (edge != no_slot) {
    const Slot successor = edge / max_dependencies;
    out.push_back(successor);
    tasks_[successor].predecessors[edge % max_dependencies] = no_slot;
    edge = tasks_[successor].next_edge[edge % max_dependencies];
  }
}

}  // namespace aios::scheduler
