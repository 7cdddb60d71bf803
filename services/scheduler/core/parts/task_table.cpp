#include "services/scheduler/core/parts/task_table.hpp"

#include <sys/mman.h>

#include <cassert>
#include <new>
#include <type_traits>

#include "services/scheduler/core/parts/limits.hpp"

namespace aios::scheduler {

using proto::scheduler::max_dependencies;
static_assert(std::uint64_t{max_tasks} * max_dependencies < no_slot);

static_assert(std::is_trivially_destructible_v<Task>);

namespace {
constexpr std::size_t huge_page_bytes = 2u << 20;
constexpr std::size_t table_bytes = (std::size_t{max_tasks} * sizeof(Task) + huge_page_bytes - 1) /
                                    huge_page_bytes * huge_page_bytes;
}  // namespace

TaskTable::TaskTable() {
  // What may not be accessed counts for no limit of memory.
  void* const room =
      ::mmap(nullptr, table_bytes + huge_page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) throw std::bad_alloc();
  // Not every kernel lays it where huge pages can lie.
  char* const bytes =
      static_cast<char*>(room) + -reinterpret_cast<std::uintptr_t>(room) % huge_page_bytes;
  const std::size_t before = static_cast<std::size_t>(bytes - static_cast<char*>(room));
  if (before > 0) ::munmap(room, before);
  ::munmap(bytes + table_bytes, huge_page_bytes - before);
  tasks_ = reinterpret_cast<Task*>(bytes);
  // A few tasks shall not take a huge page, and many not have ten thousand small ones, whose
  // addresses no TLB holds. Without huge pages it is only slower.
  ::madvise(bytes, huge_page_bytes, MADV_NOHUGEPAGE);
  ::madvise(bytes + huge_page_bytes, table_bytes - huge_page_bytes, MADV_HUGEPAGE);
}

/// Room for one more.
void TaskTable::grow() {
  assert(made_ < max_tasks);
  if ((made_ + 1) * sizeof(Task) <= usable_bytes_) return;
  if (::mprotect(reinterpret_cast<char*>(tasks_) + usable_bytes_, huge_page_bytes,
                 PROT_READ | PROT_WRITE) != 0)
    throw std::bad_alloc();
  usable_bytes_ += huge_page_bytes;
}

TaskTable::~TaskTable() {
  ::munmap(tasks_, table_bytes);
}

Slot TaskTable::allocate() {
  if (free_.empty()) {
    grow();
    new (&tasks_[made_]) Task;
    return made_++;
  }
  const Slot slot = free_.back();
  free_.pop_back();
  if (!free_.empty()) prefetch(free_.back());
  return slot;
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
  assert(task.edge_count < max_dependencies && slot != predecessor);
  Task& before = (*this)[predecessor];
  task.edges[task.edge_count] = {predecessor, before.first_successor};
  before.first_successor = slot * max_dependencies + task.edge_count;
  ++task.edge_count;
  ++task.remaining;
}

void TaskTable::take_successors(Slot slot, std::vector<Slot>& out) {
  std::uint32_t edge = std::exchange((*this)[slot].first_successor, no_slot);
  while (edge != no_slot) {
    const Slot successor = edge / max_dependencies;
    out.push_back(successor);
    Edge& of_successor = (*this)[successor].edges[edge % max_dependencies];
    of_successor.predecessor = no_slot;
    edge = of_successor.next;
  }
}

}  // namespace aios::scheduler
