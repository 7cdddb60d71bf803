// What is kept of placements, and tasks that others pass.
#include "services/scheduler/core/parts/placement_log.hpp"
#include "tests/unit/scheduler/fixture.hpp"

using namespace aios::scheduler;

namespace {

TaskRecord pinned(std::uint64_t tag, std::uint32_t device) {
  TaskRecord record = task(tag);
  record.device = device + 1;
  return record;
}

/// The number of the task with this tag.
std::uint64_t number_of(Fixture& f, std::uint64_t tag) {
  for (auto t = f.core.next_task(0, 0, true); t.number != 0;
       t = f.core.next_task(t.number, 0, true))
    if (t.tag == tag) return t.number;
  return 0;
}

}  // namespace

TEST_CASE("Tasks that must run on a busy device do not keep others from one that is free") {
  Fixture f(1);
  f.core.set_device(1, 1, true, "cpu1");
  const TenantId t = f.tenant();
  f.submit(t, {pinned(1, 0), pinned(2, 0), pinned(3, 0), pinned(4, 1)});
  // Each of both devices has got a context and a task.
  CHECK(f.running_tags() == Tags{1, 4});
  f.submit(t, {task(5)});
  f.ok(4);
  CHECK(f.running_tags() == Tags{1, 5});
  f.ok(1);
  CHECK(f.running_tags() == Tags{2, 5});
}

TEST_CASE("Of a placement is kept where, why and after what, and in the end how long it took") {
  using aios::proto::scheduler::TaskState;
  Fixture f(1);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2, {1})});
  const auto* running = f.core.log().of_task(number_of(f, 1), 0, true);
  REQUIRE(running != nullptr);
  CHECK(running->tag == 1);
  CHECK(running->state == static_cast<std::uint32_t>(TaskState::running));
  CHECK(running->candidate_count == 1);
  CHECK(running->candidates[0].device == 0);
  CHECK(running->after_number == 0);
  CHECK(f.core.log().of_task(number_of(f, 2), 0, true) == nullptr);
  f.ok(1, 5'000'000);
  f.ok(2, 7'000'000);
  const auto* after = f.core.log().of_task(number_of(f, 2), 0, true);
  REQUIRE(after != nullptr);
  CHECK(after->after_number == number_of(f, 1));
  CHECK(after->end_ns - after->start_ns == 7'000'000);
  CHECK(after->dependency_count == 1);
  CHECK(after->dependencies[0] == 1);
  CHECK(after->state == static_cast<std::uint32_t>(TaskState::done));
}

TEST_CASE("The log shows each user its own, and the last 8192") {
  PlacementLog log;
  CHECK(log.next(0, 7, false) == nullptr);
  log.add(7).number = 1;
  log.add(8).number = 2;
  CHECK(log.next(0, 7, false)->number == 1);
  CHECK(log.next(1, 7, false) == nullptr);
  CHECK(log.next(1, 7, true)->number == 2);
  CHECK(log.of_task(2, 7, false) == nullptr);
  for (std::uint64_t i = 3; i <= PlacementLog::capacity + 1; ++i) log.add(7).number = i;
  CHECK(log.find(1) == nullptr);
  CHECK(log.next(0, 7, true)->number == 2);
  CHECK(log.of_task(PlacementLog::capacity + 1, 7, false) != nullptr);
  CHECK(log.of_task(1, 7, false) == nullptr);
}

TEST_CASE("After the last placement, and after the greatest of all numbers, the log has none") {
  PlacementLog log;
  CHECK(log.next(~std::uint64_t{0}, 0, true) == nullptr);
  CHECK(log.next(0, 0, true) == nullptr);
  log.add(7);
  CHECK(log.next(0, 7, false) != nullptr);
  for (const std::uint64_t after : {std::uint64_t{1}, std::uint64_t{2}, ~std::uint64_t{0}})
    CHECK(log.next(after, 7, true) == nullptr);
}

TEST_CASE("All that is pending of some tags is cancelled, what runs is not") {
  Fixture f(1);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2, {1}), task(3, {2}), task(9)});
  const auto counts = f.core.cancel_range(t, 1, 3);
  REQUIRE(counts);
  CHECK(counts->pending == 2);
  CHECK(counts->running == 1);
  CHECK(f.completions(t).size() == 2);
  f.ok(1);
  CHECK(f.running_tags() == Tags{9});
  CHECK(f.core.cancel_range(t, 1, 3)->pending == 0);
}

TEST_CASE("Waiting for a context and for a module is told apart from waiting for a turn") {
  Core core{make_priority_order(), make_eager_placement()};
  core.set_device(0, 1, true, "cpu0");
  const TenantId t = *core.open_tenant(1, "job", 1000);
  REQUIRE(core.add_codelet(t, aios::proto::Text<64>::from("work")));
  const auto number = [&](std::uint64_t tag) {
    auto one = core.next_task(0, 0, true);
    while (one.number != 0 && one.tag != tag) one = core.next_task(one.number, 0, true);
    return one.number;
  };
  const auto start = [&](std::uint64_t at_ns) {
    core.decide(at_ns);
    for (const Action& action : core.take_actions())
      if (action.kind == Action::Kind::start) return action.task;
    return TaskRef{};
  };
  const std::vector<TaskRecord> records{task(1), task(2)};
  REQUIRE(core.submit(t, records, 1'000));
  CHECK(start(2'000) == TaskRef{});
  core.context_ready(1, 0, 30'000);
  const TaskRef first = start(31'000);
  REQUIRE(core.find(first) != nullptr);
  const auto* logged = core.log().of_task(number(1), 0, true);
  REQUIRE(logged != nullptr);
  // Ready at 1,000, asked for at 2,000, there at 30,000.
  CHECK(logged->opening_ns == 28'000);
  core.module_loaded(t, 0, 0, 30'500, 35'000);
  CHECK(logged->loading_ns == 4'500);
  core.task_begun(first);
  Core::RunReply reply{};
  reply.start_ns = 36'000;
  reply.end_ns = 40'000;
  reply.transfer_ns = 700;
  reply.ahead_ns = 300;
  core.task_answered(first, reply);
  CHECK(logged->transfer_ns == 700);
  CHECK(PlacementLog::describe(*logged).ahead_ns == 300);
  CHECK(core.next_task(number(1) - 1, 0, true).transfer_ns == 700);
  // The second one has waited for both as well, and for its turn since.
  start(41'000);
  const auto* second = core.log().of_task(number(2), 0, true);
  REQUIRE(second != nullptr);
  CHECK(second->opening_ns == 28'000);
  CHECK(second->loading_ns == 4'500);
}

TEST_CASE("Why a task failed is known as long as it is listed, to its user") {
  Fixture f(1);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2, {1}), task(3)});
  f.fail(1, aios::Code::no_memory, "4 GB are too much");
  f.ok(3);
  const std::string* why = f.core.failure_of(number_of(f, 1), 1000, false);
  REQUIRE(why != nullptr);
  CHECK(*why == "4 GB are too much");
  CHECK(f.core.failure_of(number_of(f, 1), 1001, false) == nullptr);
  CHECK(f.core.failure_of(number_of(f, 1), 1001, true) != nullptr);
  // One that was never placed has a reason too.
  why = f.core.failure_of(number_of(f, 2), 1000, false);
  REQUIRE(why != nullptr);
  CHECK(why->find("on which it depends") != std::string::npos);
  CHECK(f.core.failure_of(number_of(f, 3), 1000, false) == nullptr);
  CHECK(f.core.failure_of(0, 1000, true) == nullptr);
  CHECK(f.core.failure_of(99, 1000, true) == nullptr);
}
