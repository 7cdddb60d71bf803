// The tasks that are not finished, and which of them wait for which. Slots are reused; a TaskRef
// tells a task from a later one in its slot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "abi/proto/scheduler.hpp"
#include "services/scheduler/core/parts/admission.hpp"
#include "services/scheduler/core/parts/memories.hpp"
#include "services/scheduler/core/parts/prefetch.hpp"
#include "services/scheduler/policy/placement.hpp"

namespace aios::scheduler {

struct Tenant;

using Slot = std::uint32_t;
inline constexpr Slot no_slot = ~Slot{0};

struct TaskRef {
  Slot slot = no_slot;
  std::uint64_t number = 0;
  bool operator==(const TaskRef&) const = default;
};

enum class State : std::uint8_t {
  free,
  waiting,   ///< for tasks it depends on
  gathered,  ///< for the rest of its gang, and for nothing else
  ready,     ///< in its tenant's queue
  running,   ///< given to a context
  finished,  ///< completed early; its slot is held by tasks it still waits for
};

/// What is looked at of tasks that wait; it lies together, for there are many, and few of them in a
/// cache.
struct TaskHead {
  std::uint64_t number = 0;  ///< 1 for the first task ever submitted; 0 in a free slot
  Tenant* tenant = nullptr;
  State state = State::free;
  bool suspect = false;  ///< its context ended under it: it runs alone there until it succeeds
  bool held = false;     ///< its graph waits to be accepted: one more in `remaining`
  bool brief = false;    ///< while running: it goes with others, and takes no slot
  bool begun = false;    ///< its Run was sent: it may have had effects
  bool holds_slot = false;
  bool doomed = false;  ///< while running: one that it depends on failed, and it will be cancelled
  std::uint8_t context_ends = 0;
  std::uint8_t lone_faults = 0;
  DeviceId device = 0;          ///< while running
  std::uint32_t remaining = 0;  ///< dependencies not finished
  std::uint32_t first_successor = no_slot;
  std::uint32_t edge_count = 0;
  std::uint32_t unbegun = 0;  ///< how often it was sent ahead, or in a batch, and not begun
  WorkId work = 0;
  std::uint64_t upward_rank_ns = 0;
};

/// One task that it waits for, in a list of all that wait for that one. An edge is named by its
/// task's slot * max_dependencies + its place there.
struct Edge {
  Slot predecessor;    ///< no_slot: it has finished
  std::uint32_t next;  ///< edge; no_slot: none
};

/// Not cleared with the rest: valid as far as `edge_count` says, and in a slot that is not free.
struct TaskBody {
  Edge edges[proto::scheduler::max_dependencies];
  proto::scheduler::TaskRecord record;
};

struct TaskFacts {
  std::uint64_t submitted_ns = 0;
  std::uint64_t ready_ns = 0;       ///< as far as the contexts say
  std::uint64_t after_number = 0;   ///< of the task that it waited for last
  std::uint64_t doomed_by = 0;      ///< the tag of the one that failed
  std::uint64_t logged = 0;         ///< its last placement
  GraphId graph = 0;                ///< an accepted one with a deadline
  double mean_ns = 0;               ///< over the slots that it may run in
  double work_ns = 0;               ///< how long all devices together would be busy with it
  Transfer transfer;                ///< what was brought for it when it started
  std::uint64_t scratch_bytes = 0;  ///< reserved for it in its device's memory
  Reason placed_because = Reason::first_free;
  std::uint32_t awaited_memory = 0;  ///< 1 + the device for whose memory it waited
  std::uint32_t attempts = 0;
  std::uint64_t batch = 0;  ///< with which it was sent; 0: alone
  std::uint64_t slot_since_ns = 0;
  std::int64_t charged_ns = 0;  ///< to its user and tenant, for each thread's worth that it holds
  double slot_share = 0;        ///< of those, while it holds a slot
  std::uint32_t width = 0;      ///< threads that it keeps busy, since it was given a slot
  std::uint32_t charge_ns = 0;  ///< what a brief one is expected to take
  std::uint32_t in_flight_at = 0;  ///< its place in its context's list
  /// While it waits for a busy device: as long as it would not be done sooner elsewhere it goes on
  /// to wait without being placed anew. How busy the best of the other devices is, is counted, for
  /// there are often several alike; the rest are taken to be free. What it takes is from when it
  /// has a slot there, with its data brought and what comes after it.
  struct Wait {
    DeviceId device = 0;
    std::uint64_t takes_ns = 0;
    std::uint32_t width = 0;
    DeviceId second = 0;  ///< the best of the others, if any
    std::uint64_t second_takes_ns = ~std::uint64_t{0};
    std::uint64_t others_take_ns = ~std::uint64_t{0};  ///< at least
    std::uint64_t until_decision = 0;                  ///< then costs and data may have changed
    bool brings = false;                               ///< data that is not there
  } wait;
};

struct alignas(128) Task : TaskHead, TaskBody, TaskFacts {
  bool idempotent() const { return (record.flags & proto::scheduler::task_flag::idempotent) != 0; }
};

/// Not given to a context, and not ended.
inline bool is_pending(const Task& task) {
  return task.state == State::waiting || task.state == State::gathered ||
         task.state == State::ready;
}

class TaskTable {
 public:
  /// Address space for max_tasks; memory, in steps of 2 MB, as it fills. std::bad_alloc: there is
  /// none, here or in `allocate`.
  TaskTable();
  ~TaskTable();
  TaskTable(const TaskTable&) = delete;
  TaskTable& operator=(const TaskTable&) = delete;

  Task& operator[](Slot slot) { return tasks_[slot]; }
  const Task& operator[](Slot slot) const { return tasks_[slot]; }
  /// It will be looked at in a moment. Of tens of thousands that wait none is in a cache.
  void prefetch(Slot slot) const { prefetch_to_write(tasks_ + slot, sizeof(Task)); }
  /// The same of the first of those that wait for that one.
  void prefetch_successor(Slot slot) const {
    const std::uint32_t edge = tasks_[slot].first_successor;
    if (edge == no_slot) return;
    const Task* successor = tasks_ + edge / proto::scheduler::max_dependencies;
    prefetch_to_write(successor, asked_of_successor);
  }
  /// Null when that task is gone.
  Task* find(TaskRef ref) {
    if (ref.slot >= made_ || ref.number == 0) return nullptr;
    Task& task = (*this)[ref.slot];
    return task.number == ref.number ? &task : nullptr;
  }
  const Task* find(TaskRef ref) const { return const_cast<TaskTable*>(this)->find(ref); }

  /// All cleared but for the body; the record is the caller's to fill, who keeps to max_tasks.
  Slot allocate();
  void release(Slot slot);
  std::uint32_t used() const { return made_ - static_cast<std::uint32_t>(free_.size()); }

  /// `task` waits for `predecessor`; at most max_dependencies times.
  void add_dependency(Slot task, Slot predecessor);
  /// Calls `visit` with the slot of each task that waits for `slot`.
  template <class Visit>
  void for_successors(Slot slot, Visit visit) const {
    for (std::uint32_t edge = (*this)[slot].first_successor; edge != no_slot;) {
      const Slot successor = edge / proto::scheduler::max_dependencies;
      visit(successor);
      edge = (*this)[successor].edges[edge % proto::scheduler::max_dependencies].next;
    }
  }
  /// Appends the tasks that wait for `slot`, one entry per dependency, and forgets them.
  void take_successors(Slot slot, std::vector<Slot>& out);

 private:
  void grow();

  /// Its head, its edges, and its record up to the first buffers: what is asked before it may
  /// follow another one.
  static constexpr std::size_t asked_of_successor = 256;
  static_assert(sizeof(TaskHead) + sizeof(TaskBody) + sizeof(TaskFacts) <= sizeof(Task) &&
                sizeof(TaskHead) + sizeof(TaskBody::edges) +
                        offsetof(proto::scheduler::TaskRecord, buffers) <
                    asked_of_successor);
  Task* tasks_;
  std::size_t usable_bytes_ = 0;
  std::uint32_t made_ = 0;  ///< slots
  std::vector<Slot> free_;
};

}  // namespace aios::scheduler
