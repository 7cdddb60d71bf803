#include "services/scheduler/core/task_table.hpp"

#include <cassert>

#include "services/scheduler/core/limits.hpp"

namespace aios::scheduler {

using proto::scheduler::max_dependencies;
static_assert(std::uint64_t{max_tasks} * max_dependencies < no_slot);

Slot TaskTable::allocate() {
  if (!free_.empty()) {
    const Slot slot = free_.back();
    free_.pop_back();
    return slot;
  }
  assert(made_ < max_tasks);
  if (made_ % chunk_tasks == 0) chunks_.push_back(std::make_unique_for_overwrite<Chunk>());
  return made_++;
}

void TaskTable::release(Slot slot) {
  Task& task = (*this)[slot];
  assert(task.first_successor == no_slot);
  static_cast<TaskHead&>(task) = {};
  static_cast<TaskFacts&>(task) = {};
  free_.push_back(slot);
}

void TaskTable::add_dependency(Slot slot, Slot predecessor) {
  Task& task = (*this)[slot];
  assert(task.edges < max_dependencies && slot != predecessor);
  task.next_edge[task.edges] = (*this)[predecessor].first_successor;
  task.predecessors[task.edges] = predecessor;
  (*this)[predecessor].first_successor = slot * max_dependencies + task.edges;
  ++task.edges;
  ++task.remaining;
}

void TaskTable::take_successors(Slot slot, std::vector<Slot>& out) {
  std::uint32_t edge = std::exchange((*this)[slot].first_successor, no_slot);
  while (edge != no_slot) {
    const Slot successor = edge / max_dependencies;
    out.push_back(successor);
    (*this)[successor].predecessors[edge % max_dependencies] = no_slot;
    edge = (*this)[successor].next_edge[edge % max_dependencies];
  }
}

}  // namespace aios::scheduler
