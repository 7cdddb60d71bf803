// What becomes of unfinished tasks when the scheduler dies.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "abi/include/aios/codelet.h"
#include "abi/lib/task_client.hpp"
#include "abi/lib/task_ledger.hpp"
#include "tests/support/failing_memory.hpp"

using namespace aios;

namespace {

using Record = TaskLedger::Record;
using Tags = std::vector<std::uint64_t>;

constexpr std::uint32_t R = AIOS_MODE_READ;
constexpr std::uint32_t W = AIOS_MODE_WRITE;
constexpr std::uint32_t RW = AIOS_MODE_READ_WRITE;
constexpr std::uint32_t S = AIOS_MODE_SCRATCH;
constexpr std::uint64_t the_moment_ns = 1'000'000'000'000;

Record task(std::uint64_t tag, std::initializer_list<std::uint32_t> after = {},
            std::initializer_list<std::pair<std::uint32_t, std::uint32_t>> uses = {}) {
  Record record = make_task(tag, 0);
  for (const std::uint32_t one : after) record.dependencies[record.dependency_count++] = one;
  for (const auto& [buffer, mode] : uses) add_buffer(record, buffer, mode);
  return record;
}

Record once(Record record) {
  record.flags = 0;
  return record;
}

/// Each buffer below 100 is memory of its own; 100 to 199 lie within one another; 200 is gone.
std::optional<TaskLedger::Memory> memory(std::uint32_t buffer) {
  if (buffer >= 200) return std::nullopt;
  if (buffer >= 100) return TaskLedger::Memory{100, false};
  return TaskLedger::Memory{buffer, true};
}

void add(TaskLedger& ledger, const std::vector<Record>& batch, bool held = false) {
  REQUIRE(ledger.add(batch, held));
}

std::map<std::uint64_t, Code> codes(const std::vector<TaskLedger::Ended>& ended) {
  std::map<std::uint64_t, Code> all;
  for (const auto& one : ended) {
    CHECK(!one.why.empty());
    CHECK(all.emplace(one.tag, one.code).second);
  }
  return all;
}

/// Everything that runs again, in the order in which it is sent; `ended` gets what does not.
std::vector<Record> replay_all(TaskLedger& ledger, std::vector<TaskLedger::Ended>& ended,
                               std::size_t most = 3) {
  std::vector<Record> all;
  for (;;) {
    const auto batch = ledger.replay(most, the_moment_ns, ended);
    if (batch.empty()) return all;
    CHECK(batch.size() <= most);
    all.insert(all.end(), batch.begin(), batch.end());
    ledger.replayed();
  }
}

Tags tags(const std::vector<Record>& records) {
  Tags all;
  for (const Record& one : records) all.push_back(one.tag);
  return all;
}

struct Fate {
  std::map<std::uint64_t, Code> ended;
  std::vector<Record> again;
};

Fate lose(TaskLedger& ledger) {
  auto ended = ledger.lose(memory);
  auto again = replay_all(ledger, ended);
  return {codes(ended), again};
}

}  // namespace

TEST_CASE("A task ends once") {
  TaskLedger ledger;
  add(ledger, {task(1), task(2)});
  CHECK(ledger.size() == 2);
  CHECK(ledger.finish(1, true));
  CHECK(!ledger.finish(1, true));
  CHECK(!ledger.finish(3, true));
  // The low half alone is not the name.
  CHECK(!ledger.finish(2 + (1ull << 32), true));
  CHECK(ledger.size() == 1);
}

namespace {

Record member(Record record, std::uint32_t gang, std::uint32_t size) {
  record.flags |= proto::scheduler::task_flag::gang;
  record.gang = gang;
  record.gang_size = size;
  return record;
}

}  // namespace

TEST_CASE("What was refused is taken out without memory, and nothing else") {
  test::with_each_failure([](auto with_failure) {
    TaskLedger ledger;
    // More than a chunk, so that the table is left full of what goes.
    std::vector<Record> many;
    for (std::uint64_t tag = 1; tag <= 300; ++tag) many.push_back(member(task(tag), 7, 256));
    add(ledger, {task(1000), task(1001)});
    const auto range = ledger.add(many);
    REQUIRE(range);
    add(ledger, {task(2000)});
    with_failure([&] { ledger.remove(*range); });
    REQUIRE(ledger.size() == 3);
    for (const std::uint64_t tag : {1000, 1001, 2000}) REQUIRE(ledger.contains(tag));
    // Its tags and its gang are free again.
    add(ledger, many);
    with_failure([&] { ledger.withdraw(1, 300); });
    REQUIRE(ledger.size() == 3);
    add(ledger, {member(task(1), 7, 2), member(task(2), 7, 2)});
    REQUIRE(lose(ledger).again.back().gang_size == 2);
  });
}

TEST_CASE("A batch for which there is no memory was never added") {
  test::with_each_failure([](auto with_failure) {
    TaskLedger ledger;
    add(ledger, {task(1), task(2)});
    const std::uint64_t end = ledger.end();
    std::vector<Record> batch;
    for (std::uint64_t tag = 3; tag <= 600; ++tag)
      batch.push_back(tag % 2 == 0 ? task(tag) : member(task(tag), 7, 256));
    std::vector<Record> clashing = batch;
    clashing.push_back(task(2 + (1ull << 32)));
    const auto is_added = [&](const std::vector<Record>& records) {
      bool added = false;
      with_failure([&] {
        try {
          added = ledger.add(records).has_value();
        } catch (const std::bad_alloc&) {
        }
      });
      return added;
    };
    REQUIRE_FALSE(is_added(clashing));
    REQUIRE(ledger.size() == 2);
    const bool added = is_added(batch);
    REQUIRE(ledger.size() == (added ? 600 : 2));
    if (!added) {
      REQUIRE(ledger.end() == end);
      add(ledger, batch);
    }
    for (std::uint64_t tag = 1; tag <= 600; ++tag) REQUIRE(ledger.finish(tag, true));
  });
}

TEST_CASE("Of a gang those that are left run again, and it is as large as they are many") {
  TaskLedger ledger;
  add(ledger, {member(task(1), 7, 3), member(task(2), 7, 3), member(task(3), 7, 3)});
  add(ledger, {member(task(4), 8, 2)});
  CHECK(ledger.finish(1, true));
  Fate fate = lose(ledger);
  REQUIRE(tags(fate.again) == Tags{2, 3, 4});
  CHECK((fate.again[0].gang == 7 && fate.again[0].gang_size == 2));
  CHECK((fate.again[1].gang == 7 && fate.again[1].gang_size == 2));
  // The rest of this one is still to come.
  CHECK((fate.again[2].gang == 8 && fate.again[2].gang_size == 2));
  std::vector<TaskLedger::Ended> doomed;
  const std::vector<Record> rest = {member(task(5), 8, 2)};
  add(ledger, rest);
  CHECK(ledger.prepare(rest, doomed)[0].gang_size == 2);
  CHECK(ledger.finish(2, true));
  fate = lose(ledger);
  REQUIRE(tags(fate.again) == Tags{3, 4, 5});
  // The last one is no gang.
  CHECK((fate.again[0].flags & proto::scheduler::task_flag::gang) == 0);
  CHECK((fate.again[0].gang == 0 && fate.again[0].gang_size == 0));
  CHECK(fate.again[1].gang_size == 2);
  for (const std::uint64_t tag : {3, 4, 5}) CHECK(ledger.finish(tag, true));
  // Its number serves another.
  add(ledger, {member(task(6), 7, 5)});
  CHECK(lose(ledger).again[0].gang_size == 5);
}

TEST_CASE("A gang of which one does not run again does not run again, nor what waits for it") {
  TaskLedger ledger;
  add(ledger, {member(task(1), 7, 2), member(once(task(2)), 7, 2), task(3, {1})});
  add(ledger, {member(task(4), 8, 2), member(task(5, {3}), 8, 2), task(6)});
  const Fate fate = lose(ledger);
  CHECK(fate.ended == std::map<std::uint64_t, Code>{{1, Code::cancelled},
                                                    {2, Code::indeterminate},
                                                    {3, Code::cancelled},
                                                    {4, Code::cancelled},
                                                    {5, Code::cancelled}});
  CHECK(tags(fate.again) == Tags{6});
}

TEST_CASE("A tag in use is refused with the whole batch") {
  TaskLedger ledger;
  add(ledger, {task(1)});
  const std::vector<Record> batch = {task(2), task(1 + (1ull << 32))};
  const auto refused = ledger.add(batch);
  REQUIRE(!refused);
  CHECK(refused.error().code() == Code::already_exists);
  CHECK(ledger.size() == 1);
  CHECK(ledger.finish(1, true));
  add(ledger, batch);
}

TEST_CASE("What was refused is as if it had never been added") {
  TaskLedger ledger;
  add(ledger, {task(1)});
  const auto range = ledger.add(std::vector<Record>{task(2), task(3)});
  REQUIRE(range);
  ledger.remove(*range);
  CHECK(ledger.size() == 1);
  add(ledger, {task(3), task(2)});
  ledger.withdraw(2, 1000);
  CHECK(ledger.size() == 1);
}

TEST_CASE("Idempotent tasks run again in their order, without what has ended well") {
  TaskLedger ledger;
  add(ledger, {task(5), task(4, {5}), task(3, {5, 4})});
  CHECK(ledger.finish(5, true));
  const Fate fate = lose(ledger);
  CHECK(fate.ended.empty());
  CHECK(tags(fate.again) == Tags{4, 3});
  CHECK(fate.again[0].dependency_count == 0);
  CHECK(fate.again[0].dependencies[0] == 0);
  CHECK(fate.again[1].dependency_count == 1);
  CHECK(fate.again[1].dependencies[0] == 4);
  CHECK(fate.again[1].dependencies[1] == 0);
  CHECK(ledger.size() == 2);
}

TEST_CASE("A task that may not run again is indeterminate, and what waits for it is cancelled") {
  TaskLedger ledger;
  Record join = once(task(4, {2}));
  join.flags = proto::scheduler::task_flag::join;
  add(ledger, {task(1), once(task(2, {1})), task(3, {2}), join, task(5, {1}), task(6, {3})});
  const Fate fate = lose(ledger);
  CHECK(fate.ended == std::map<std::uint64_t, Code>{{2, Code::indeterminate},
                                                    {3, Code::cancelled},
                                                    {4, Code::cancelled},
                                                    {6, Code::cancelled}});
  CHECK(tags(fate.again) == Tags{1, 5});
}

TEST_CASE("What waits for a task that failed before is cancelled") {
  TaskLedger ledger;
  add(ledger, {task(1), task(2, {1})});
  CHECK(ledger.finish(1, false));
  CHECK(lose(ledger).ended == std::map<std::uint64_t, Code>{{2, Code::cancelled}});
  CHECK(ledger.size() == 0);
}

TEST_CASE("A task does not run again when a later one may have overwritten what it reads") {
  TaskLedger ledger;
  // B := f(A), A := g(B), C := h(A)
  add(ledger, {task(1, {}, {{1, R}, {2, W}}), task(2, {1}, {{2, R}, {1, W}}),
               task(3, {2}, {{1, R}, {3, W}})});
  CHECK(lose(ledger).ended == std::map<std::uint64_t, Code>{{1, Code::indeterminate},
                                                            {2, Code::cancelled},
                                                            {3, Code::cancelled}});

  SUBCASE("scratch is overwritten, too") {
    add(ledger, {task(1, {}, {{1, R}}), task(2, {1}, {{1, S}})});
    CHECK(lose(ledger).ended ==
          std::map<std::uint64_t, Code>{{1, Code::indeterminate}, {2, Code::cancelled}});
  }
  SUBCASE("one that writes in place may run again by itself, and not when another follows") {
    add(ledger, {task(1, {}, {{1, RW}})});
    CHECK(tags(lose(ledger).again) == Tags{1});
    add(ledger, {task(2, {1}, {{1, RW}})});
    CHECK(lose(ledger).ended ==
          std::map<std::uint64_t, Code>{{1, Code::indeterminate}, {2, Code::cancelled}});
  }
  SUBCASE("also one that does not run again itself") {
    add(ledger, {task(1, {}, {{1, R}}), once(task(2, {}, {{1, W}}))});
    CHECK(lose(ledger).ended ==
          std::map<std::uint64_t, Code>{{1, Code::indeterminate}, {2, Code::indeterminate}});
  }
}

TEST_CASE("What is read may be overwritten when it is made anew before") {
  TaskLedger ledger;
  add(ledger, {task(1, {}, {{1, W}}), task(2, {1}, {{1, RW}}), task(3, {2}, {{1, RW}}),
               task(4, {3}, {{1, R}, {2, W}}), task(5, {4}, {{1, W}})});
  CHECK(tags(lose(ledger).again) == Tags{1, 2, 3, 4, 5});
  // The first was done: now the second finds what the third left.
  CHECK(ledger.finish(1, true));
  const Fate fate = lose(ledger);
  CHECK(fate.ended == std::map<std::uint64_t, Code>{{2, Code::indeterminate},
                                                    {3, Code::indeterminate},
                                                    {4, Code::indeterminate},
                                                    {5, Code::cancelled}});
}

TEST_CASE("A buffer that lies within another is not made anew by writing either") {
  TaskLedger ledger;
  add(ledger, {task(1, {}, {{100, W}}), task(2, {1}, {{101, R}}), task(3, {2}, {{102, W}})});
  CHECK(lose(ledger).ended ==
        std::map<std::uint64_t, Code>{{2, Code::indeterminate}, {3, Code::cancelled}});
}

TEST_CASE("A task whose buffer was released is indeterminate") {
  TaskLedger ledger;
  add(ledger, {task(1, {}, {{200, R}})});
  CHECK(lose(ledger).ended == std::map<std::uint64_t, Code>{{1, Code::indeterminate}});
}

TEST_CASE("What was cancelled does not come back") {
  TaskLedger ledger;
  add(ledger, {task(1), once(task(2)), once(task(3)), task(4)});
  ledger.cancelled(2);
  ledger.cancelled(3, 10, ledger.end());
  add(ledger, {task(5)});
  const Fate fate = lose(ledger);
  CHECK(fate.ended == std::map<std::uint64_t, Code>{
                          {2, Code::cancelled}, {3, Code::indeterminate}, {4, Code::cancelled}});
  CHECK(tags(fate.again) == Tags{1, 5});
}

TEST_CASE("Tasks of a graph that nobody has accepted are indeterminate, afterwards they are due") {
  TaskLedger ledger;
  Record sooner = task(2);
  sooner.deadline_ns = the_moment_ns + 5 * TaskLedger::late_deadline_ns;
  const std::uint64_t due_ns = the_moment_ns + 9 * TaskLedger::late_deadline_ns;
  add(ledger, {task(1), sooner, task(3)}, true);
  ledger.admitted(1, 2, due_ns);
  const Fate fate = lose(ledger);
  CHECK(fate.ended == std::map<std::uint64_t, Code>{{3, Code::indeterminate}});
  REQUIRE(fate.again.size() == 2);
  CHECK(fate.again[0].deadline_ns == due_ns);
  CHECK(fate.again[1].deadline_ns == sooner.deadline_ns);
}

TEST_CASE("Tasks of a graph that was accepted in cheaper variants stay in them, where they may") {
  TaskLedger ledger;
  Record may = task(1, {}, {{7, RW}});
  may.flags |= proto::scheduler::task_flag::may_be_cheaper;
  may.codelet = 4;
  Record must_not = task(2);
  must_not.codelet = 4;
  add(ledger, {may, must_not}, true);
  ledger.admitted(1, 2, the_moment_ns + 5 * TaskLedger::late_deadline_ns,
                  [](std::uint32_t codelet) { return codelet + 1; });
  const Fate fate = lose(ledger);
  REQUIRE(fate.again.size() == 2);
  CHECK((fate.again[0].codelet == 5 && fate.again[0].buffers[0] == (7 | RW << 28)));
  CHECK(fate.again[1].codelet == 4);
}

TEST_CASE("A deadline that has passed meanwhile is no reason to be refused") {
  TaskLedger ledger;
  Record late = task(1);
  late.deadline_ns = 5;
  add(ledger, {late});
  CHECK(lose(ledger).again[0].deadline_ns == the_moment_ns + TaskLedger::late_deadline_ns);
}

TEST_CASE("What was offered and not taken is offered again") {
  TaskLedger ledger;
  add(ledger, {task(1), task(2), task(3), task(4, {3})});
  std::vector<TaskLedger::Ended> ended = ledger.lose(memory);
  CHECK(ledger.replay(4, the_moment_ns, ended).size() == 4);
  const auto half = ledger.replay(2, the_moment_ns, ended);
  CHECK(tags({half.begin(), half.end()}) == Tags{1, 2});
  ledger.replayed();
  const auto third = ledger.replay(1, the_moment_ns, ended);
  CHECK(tags({third.begin(), third.end()}) == Tags{3});
  CHECK(ended.empty());
  const auto refused = ledger.refuse(Status(Code::not_supported, "no device"));
  CHECK(codes(refused) == std::map<std::uint64_t, Code>{{3, Code::not_supported}});
  CHECK(ledger.replay(4, the_moment_ns, ended).empty());
  CHECK(codes(ended) == std::map<std::uint64_t, Code>{{4, Code::cancelled}});
  CHECK(ledger.size() == 2);
}

TEST_CASE("A new batch may depend on what ended in the scheduler's last life") {
  TaskLedger ledger;
  add(ledger, {task(1), task(2), task(3)});
  CHECK(ledger.finish(1, true));
  CHECK(ledger.finish(2, false));
  lose(ledger);
  const std::vector<Record> batch = {task(10, {1}), task(11, {2}), task(12, {11}), task(13, {3}),
                                     task(14, {77})};
  add(ledger, batch);
  std::vector<TaskLedger::Ended> doomed;
  const auto sent = ledger.prepare(batch, doomed);
  CHECK(tags({sent.begin(), sent.end()}) == Tags{10, 13, 14});
  CHECK(sent[0].dependency_count == 0);
  CHECK(sent[1].dependency_count == 1);
  // Nobody ever heard of it: the scheduler says so.
  CHECK(sent[2].dependency_count == 1);
  CHECK(codes(doomed) ==
        std::map<std::uint64_t, Code>{{11, Code::cancelled}, {12, Code::cancelled}});
  SUBCASE("those that depend on what failed end when the others are taken") {
    for (const auto& one : doomed) ledger.end_doomed(one);
    CHECK(ledger.size() == 4);
  }
  SUBCASE("or when the scheduler dies over them") {
    const Fate fate = lose(ledger);
    CHECK(fate.ended.at(11) == Code::cancelled);
    CHECK(tags(fate.again) == Tags{3, 10, 13, 14});
  }
  SUBCASE("and mean something else when the tag is used again") {
    for (const auto& one : doomed) ledger.end_doomed(one);
    const std::vector<Record> second = {task(2), task(15, {2})};
    add(ledger, second);
    std::vector<TaskLedger::Ended> none;
    CHECK(ledger.prepare(second, none).size() == 2);
    CHECK(none.empty());
  }
}

TEST_CASE("A task that has seen the scheduler die a hundred times is given up") {
  TaskLedger ledger;
  add(ledger, {task(1)});
  for (std::uint32_t i = 0; i < TaskLedger::max_deaths; ++i)
    CHECK(tags(lose(ledger).again) == Tags{1});
  CHECK(lose(ledger).ended == std::map<std::uint64_t, Code>{{1, Code::crashed}});
}

namespace {

/// A scheduler that dies, its memory, and what a program may be told. Tasks add their number to
/// what they read; each buffer remembers the numbers that led to its bytes.
class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed) {}

  /// A few tasks over few buffers, in the order that their buffers ask for.
  void build(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      Record one = task(i + 1);
      const std::uint32_t from = pick(buffers);
      const std::uint32_t to = pick(buffers);
      if (from != to) add_buffer(one, from, R);
      add_buffer(one, to, W);
      if (pick(12) == 0) one.flags = 0;
      depend(one);
      tasks_.push_back(one);
    }
    want_ = run_all();
    add(ledger_, tasks_);
    queue_ = tasks_;
  }

  /// Runs, in an order that dependencies allow, and tells of some; then the scheduler dies.
  void live() {
    std::size_t steps = pick(static_cast<std::uint32_t>(queue_.size()) + 2);
    std::set<std::uint32_t> done;
    std::vector<std::uint64_t> untold;
    while (steps-- > 0) {
      std::vector<std::size_t> ready;
      for (std::size_t i = 0; i < queue_.size(); ++i)
        if (can_run(queue_[i], done)) ready.push_back(i);
      if (ready.empty()) break;
      const std::size_t at = ready[pick(static_cast<std::uint32_t>(ready.size()))];
      const Record record = queue_[at];
      queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(at));
      run(record, memory_);
      done.insert(static_cast<std::uint32_t>(record.tag));
      untold.push_back(record.tag);
    }
    // Completions come in order, and the last ones do not.
    untold.resize(pick(static_cast<std::uint32_t>(untold.size()) + 1));
    for (const std::uint64_t tag : untold) told(tag, Code::ok);
    // One more may have run half, and written nonsense.
    for (const Record& record : queue_)
      if (can_run(record, done) && pick(2) == 0) {
        memory_[written(record)] = {999};
        ++runs_[record.tag];
        break;
      }
  }

  void die() {
    std::vector<TaskLedger::Ended> ended = ledger_.lose(memory);
    queue_ = replay_all(ledger_, ended, 1 + pick(5));
    for (const auto& one : ended) told(one.tag, one.code);
  }

  void finish() {
    std::set<std::uint32_t> done;
    for (const Record& record : queue_) {
      REQUIRE(can_run(record, done));
      run(record, memory_);
      done.insert(static_cast<std::uint32_t>(record.tag));
      told(record.tag, Code::ok);
    }
  }

  /// Whatever is said to be done has the right result, unless what overwrote it since is unknown.
  void check() {
    CHECK(told_.size() == tasks_.size());
    for (const Record& record : tasks_) {
      const Code code = told_.at(record.tag);
      if ((record.flags & proto::scheduler::task_flag::idempotent) == 0)
        CHECK(runs_[record.tag] <= 1);
      if (code == Code::ok) CHECK(result_[record.tag] == want_.at(record.tag));
    }
  }
  std::size_t succeeded() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(told_, [](const auto& one) { return one.second == Code::ok; }));
  }

 private:
  using History = std::vector<std::uint64_t>;
  using Buffers = std::map<std::uint32_t, History>;
  static constexpr std::uint32_t buffers = 5;

  std::uint32_t pick(std::uint32_t count) { return static_cast<std::uint32_t>(random_() % count); }
  static std::uint32_t written(const Record& record) {
    return record.buffers[record.buffer_count - 1] & 0x0fffffff;
  }
  void depend(Record& one) {
    std::set<std::uint32_t> on;
    for (const Record& before : tasks_) {
      bool clash = false;
      for (std::uint32_t i = 0; i < one.buffer_count; ++i)
        for (std::uint32_t j = 0; j < before.buffer_count; ++j)
          clash = clash || ((one.buffers[i] ^ before.buffers[j]) << 4 == 0 &&
                            (one.buffers[i] >> 28 != R || before.buffers[j] >> 28 != R));
      if (clash) on.insert(static_cast<std::uint32_t>(before.tag));
    }
    // The last ones wait for those before them.
    while (on.size() > proto::scheduler::max_dependencies) on.erase(on.begin());
    for (const std::uint32_t tag : on) one.dependencies[one.dependency_count++] = tag;
  }
  bool can_run(const Record& record, const std::set<std::uint32_t>& done) const {
    return std::all_of(record.dependencies, record.dependencies + record.dependency_count,
                       [&](std::uint32_t tag) { return done.contains(tag); });
  }
  void run(const Record& record, Buffers& memory) {
    History made = record.buffer_count == 2 ? memory[record.buffers[0] & 0x0fffffff] : History{};
    made.push_back(record.tag);
    memory[written(record)] = made;
    result_[record.tag] = made;
    ++runs_[record.tag];
  }
  std::map<std::uint64_t, History> run_all() {
    Buffers memory;
    for (const Record& record : tasks_) run(record, memory);
    runs_.clear();
    return std::exchange(result_, {});
  }
  void told(std::uint64_t tag, Code code) {
    if (code == Code::ok) REQUIRE(ledger_.finish(tag, true));
    REQUIRE(told_.emplace(tag, code).second);
  }

  std::mt19937_64 random_;
  TaskLedger ledger_;
  std::vector<Record> tasks_;
  std::vector<Record> queue_;  ///< what the scheduler has
  Buffers memory_;
  std::map<std::uint64_t, History> want_;
  std::map<std::uint64_t, History> result_;
  std::map<std::uint64_t, int> runs_;
  std::map<std::uint64_t, Code> told_;
};

}  // namespace

TEST_CASE("However often and whenever the scheduler dies, what is told to be done is right") {
  std::size_t succeeded = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    CAPTURE(seed);
    World world(seed);
    world.build(12);
    for (std::uint64_t deaths = 0; deaths < seed % 5; ++deaths) {
      world.live();
      world.die();
    }
    world.finish();
    world.check();
    succeeded += world.succeeded();
  }
  // Giving everything up would be right, too.
  CHECK(succeeded > 3000 * 12 / 3);
}
