#include "tests/unit/scheduler/fixture.hpp"

namespace aios::scheduler {

TEST_CASE("Tasks of equal priority start in order of submission") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(5), task(3), task(9)});
  f.ok(5);
  f.ok(3);
  f.ok(9);
  CHECK(f.started == Tags{5, 3, 9});
}

TEST_CASE("A task with a higher priority starts before earlier ones") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2), task(3, {}, 7), task(4, {}, -1), task(5, {}, 7)});
  f.ok(3);
  f.ok(5);
  f.ok(1);
  f.ok(2);
  f.ok(4);
  CHECK(f.started == Tags{3, 5, 1, 2, 4});
}

TEST_CASE("A task that becomes ready late still goes before tasks submitted after it") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2, {1}), task(3), task(4)});
  f.ok(1);
  CHECK(f.running_tags() == Tags{2});
}

TEST_CASE("As many tasks run at once as the device has slots") {
  Fixture f(3);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2), task(3), task(4)});
  CHECK(f.running_tags() == Tags{1, 2, 3});
  f.ok(2);
  CHECK(f.running_tags() == Tags{1, 3, 4});
}

TEST_CASE("The tenants of one user take turns at equal priority") {
  Fixture f;
  const TenantId a = f.tenant(1);
  const TenantId b = f.tenant(2);
  std::vector<TaskRecord> many;
  for (std::uint64_t tag = 100; tag < 1100; ++tag) many.push_back(task(tag));
  f.submit(a, many);
  f.submit(b, {task(1), task(2), task(3)});
  for (const std::uint64_t tag : {100, 1, 101, 2, 102, 3, 103}) f.ok(tag);
  CHECK(f.started == Tags{100, 1, 101, 2, 102, 3, 103, 104});
}

TEST_CASE("Between the tenants of one user a higher priority goes first") {
  Fixture f;
  const TenantId a = f.tenant(1);
  const TenantId b = f.tenant(2);
  f.submit(a, {task(1, {}, 1), task(2, {}, 1), task(3, {}, 1)});
  f.submit(b, {task(11), task(12)});
  for (const std::uint64_t tag : {1, 2, 3, 11}) f.ok(tag);
  CHECK(f.started == Tags{1, 2, 3, 11, 12});
}

TEST_CASE("A user with high priorities and many tasks does not starve another user") {
  Fixture f(2);
  const TenantId greedy = f.tenant(1, 1000);
  const TenantId modest = f.tenant(2, 1001);
  std::vector<TaskRecord> many;
  for (std::uint64_t tag = 100; tag < 1100; ++tag) many.push_back(task(tag, {}, 1'000'000));
  f.submit(greedy, many);
  f.submit(modest, {task(1), task(2), task(3)});
  CHECK(f.running_tags() == Tags{1, 100, 101});
  f.ok(1);
  f.ok(2);
  CHECK(f.running_tags() == Tags{3, 100, 101});
}

TEST_CASE("A user of whom nothing runs gets a task started beside another user's endless ones") {
  Fixture f(1);
  f.submit(f.tenant(1, 1000), {task(100), task(101)});
  const TenantId other = f.tenant(2, 1001);
  f.submit(other, {task(1), task(2)});
  CHECK(f.running_tags() == Tags{1, 100});
  CHECK(f.core.devices()[0].running == 2);
}

TEST_CASE("A context that stalls holds no slots until it resumes and takes no tasks meanwhile") {
  Fixture f(2);
  const TenantId stuck = f.tenant(1);
  f.submit(stuck, {task(1), task(2), task(3)});
  const TenantId other = f.tenant(2);
  f.submit(other, {task(11), task(12), task(13)});
  CHECK(f.running_tags() == Tags{1, 2});
  f.core.context_stalled(1, 0);
  f.run();
  CHECK(f.running_tags() == Tags{1, 2, 11, 12});
  f.core.context_resumed(1, 0);
  f.run();
  CHECK(f.core.devices()[0].running == 4);
  for (const std::uint64_t tag : {11, 12, 1}) f.ok(tag);
  // It is the other's turn when a slot is free again.
  CHECK(f.running_tags() == Tags{2, 3});
  f.ok(2);
  CHECK(f.running_tags() == Tags{3, 13});
}

TEST_CASE("A task of a stalled context may be answered and the context may end") {
  Fixture f(1);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2)});
  f.core.context_stalled(1, 0);
  f.ok(1);
  CHECK(f.core.devices()[0].running == 0);
  CHECK(f.running_tags().empty());
  f.end_context(How::killed, "killed");
  CHECK(f.running_tags() == Tags{2});
  CHECK(f.core.devices()[0].running == 1);
}

TEST_CASE("Eager placement takes the first device with a free slot") {
  Fixture f(1);
  f.core.set_device(1, 2, true, "cpu1");
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2), task(3), task(4)});
  CHECK(f.running_tags() == Tags{1, 2, 3});
  CHECK(f.core.find(f.running[1])->device == 0);
  CHECK(f.core.find(f.running[2])->device == 1);
  CHECK(f.core.find(f.running[3])->device == 1);
}

TEST_CASE("An unusable device gets no tasks and tasks wait for one") {
  Fixture f(1);
  f.core.set_device(0, 1, false, "cpu0");
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  CHECK(f.started.empty());
  CHECK(f.opens.empty());
  f.core.set_device(0, 1, true, "cpu0");
  f.run();
  CHECK(f.running_tags() == Tags{1});
}

TEST_CASE("Without any device tasks wait and nothing fails") {
  Core core(make_priority_order(), make_eager_placement());
  const TenantId t = *core.open_tenant(1, "job", 1000);
  CHECK(core.add_codelet(t, {}));
  CHECK(core.submit(t, std::vector{task(1)}, 1));
  core.decide(1);
  CHECK(core.take_actions().empty());
  core.set_device(0, 1, true, "cpu0");
  core.decide(1);
  CHECK(core.take_actions().size() == 1);
}

TEST_CASE("Tasks wait for their job's context and two jobs never share one") {
  Fixture f(4);
  f.hold_contexts = true;
  f.submit(f.tenant(1), {task(1)});
  f.submit(f.tenant(2), {task(2)});
  CHECK(f.started.empty());
  REQUIRE(f.opens.size() == 2);
  CHECK(f.opens[0].job == 1);
  CHECK(f.opens[1].job == 2);
  f.core.context_ready(2, 0);
  f.run();
  CHECK(f.running_tags() == Tags{2});
}

TEST_CASE("A completion carries times, attempts and result of the run") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(21)});
  f.ok(21);
  const Core::Completion c = f.completion(t);
  CHECK(c.tag == 21);
  CHECK(c.status == 0);
  CHECK(c.attempts == 1);
  CHECK(c.start_ns == 10);
  CHECK(c.end_ns == 1'000'010);
  CHECK(c.result[0] == 42);
  CHECK(f.core.devices()[0].tasks_done == 1);
  CHECK(f.core.devices()[0].busy_ns == 1'000'000);
}

}  // namespace aios::scheduler
