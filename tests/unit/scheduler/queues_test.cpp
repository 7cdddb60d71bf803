// The lists through which every task goes, alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "services/scheduler/core/parts/listing.hpp"
#include "services/scheduler/core/parts/ready_queue.hpp"

namespace aios::scheduler {
namespace {

struct Tasks {
  TaskRef add() {
    const Slot slot = table.allocate();
    table[slot].number = ++last;
    table[slot].state = State::ready;
    return {slot, last};
  }
  void finish(const TaskRef& task) {
    table[task.slot].state = State::finished;
    unfinished.finished(task.number, table);
    table.release(task.slot);
  }

  TaskTable table;
  UnfinishedIndex unfinished;
  std::uint64_t last = 0;
};

Rank by(std::int64_t urgency) {
  return {.urgency = urgency};
}

}  // namespace

TEST_CASE(
    "Of tasks that finish behind one that does not the list stays short, the rest is listed") {
  Tasks t;
  const TaskRef first = t.add();
  t.unfinished.add(first, t.table);
  std::size_t longest = 0;
  for (int i = 0; i < 100'000; ++i) {
    const TaskRef task = t.add();
    t.unfinished.add(task, t.table);
    t.finish(task);
    longest = std::max(longest, t.unfinished.refs().size());
  }
  CHECK(longest <= 1100);
  const TaskRef last = t.add();
  t.unfinished.add(last, t.table);
  REQUIRE(t.unfinished.next(0, t.table) != nullptr);
  CHECK(t.unfinished.next(0, t.table)->number == first.number);
  REQUIRE(t.unfinished.next(first.number, t.table) != nullptr);
  CHECK(t.unfinished.next(first.number, t.table)->number == last.number);
  CHECK(t.unfinished.next(last.number, t.table) == nullptr);
  t.finish(first);
  CHECK(t.unfinished.refs().size() == 1);
  t.finish(last);
  CHECK(t.unfinished.refs().empty());
}

TEST_CASE("Tasks come out of the queue by rank, from wherever in it they lay") {
  Tasks t;
  ReadyQueue queue;
  std::vector<TaskRef> tasks;
  // Every third comes before those that came before it, so that the row and the heap take turns.
  constexpr int count = 400;
  for (int i = 0; i < count; ++i) {
    tasks.push_back(t.add());
    queue.push(by(i % 3 == 2 ? i - 2 * (i % 100) : i), tasks.back());
  }
  // Some leave out of turn.
  for (int i = 0; i < count; i += 5) {
    t.table[tasks[static_cast<std::size_t>(i)].slot].state = State::waiting;
    queue.left(t.table);
  }
  CHECK(queue.peek(ReadyQueue::window, t.table) == nullptr);
  // As who looks for one that can start walks over those that cannot.
  std::vector<Rank> walked;
  for (std::uint32_t i = 0; i < ReadyQueue::window; ++i) {
    const ReadyQueue::Entry* entry = queue.peek(i, t.table);
    REQUIRE(entry != nullptr);
    walked.push_back(entry->rank);
  }
  std::size_t seen = 0;
  for (Rank before = by(-1000); !queue.empty(); ++seen) {
    const ReadyQueue::Entry top = queue.top(t.table);
    CHECK_FALSE(top.rank < before);
    CHECK(t.table[top.task.slot].state == State::ready);
    if (seen < walked.size()) CHECK(top.rank.urgency == walked[seen].urgency);
    before = top.rank;
    queue.take(0, t.table);
    t.table[top.task.slot].state = State::running;
  }
  CHECK(seen == count - count / 5);
  CHECK(queue.peek(0, t.table) == nullptr);
}

TEST_CASE("A table of tasks keeps what it has where it is when it grows") {
  Tasks t;
  const TaskRef first = t.add();
  const Task* const at = t.table.find(first);
  for (int i = 0; i < 20'000; ++i) t.add();
  CHECK(t.table.find(first) == at);
  CHECK(at->number == 1);
  CHECK(t.table.used() == 20'001);
  CHECK(t.table[20'000].number == 20'001);
}

}  // namespace aios::scheduler
