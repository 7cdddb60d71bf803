#include "tests/unit/scheduler/fixture.hpp"

namespace aios::scheduler {

namespace {
TaskRecord with_buffer(TaskRecord record, std::uint32_t buffer, std::uint32_t mode) {
  record.buffers[record.buffer_count++] = buffer | mode << 28;
  return record;
}
std::size_t count(const Fixture& f, Action::Kind kind) {
  return static_cast<std::size_t>(std::count_if(f.others.begin(), f.others.end(),
                                                [&](const Action& a) { return a.kind == kind; }));
}
}  // namespace

TEST_CASE("A pending task is cancelled, with what depends on it") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2), task(3, {2})});
  CHECK(f.core.cancel(t, 2));
  const auto all = f.completions(t);
  REQUIRE(all.size() == 2);
  CHECK(all[0].status == static_cast<std::uint32_t>(Code::cancelled));
  f.ok(1);
  CHECK(f.running_tags().empty());
}

TEST_CASE("A running task is not cancelled but busy") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  CHECK(f.core.cancel(t, 1).error().code() == Code::busy);
}

TEST_CASE("Cancelling a finished or unknown task is not_found") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  f.ok(1);
  CHECK(f.core.cancel(t, 1).error().code() == Code::not_found);
  CHECK(f.core.cancel(t, 9).error().code() == Code::not_found);
}

TEST_CASE("A task names only codelets and buffers of its own tenant") {
  Fixture f;
  const TenantId a = f.tenant(1);
  const TenantId b = f.tenant(1);
  const std::uint32_t buffer = *f.core.add_buffer(a, true);
  CHECK(f.core.submit(a, std::vector{with_buffer(task(1), buffer, AIOS_MODE_READ_WRITE)}, 1));
  CHECK(f.core.submit(b, std::vector{with_buffer(task(1), buffer, AIOS_MODE_READ)}, 1)
            .error()
            .code() == Code::invalid_argument);
  TaskRecord record = task(2);
  record.codelet = 1;
  CHECK(f.core.submit(a, std::vector{record}, 1).error().code() == Code::invalid_argument);
  CHECK(f.core.release_buffer(b, buffer).error().code() == Code::not_found);
}

TEST_CASE("Writing a buffer that is registered read-only is invalid_argument") {
  Fixture f;
  const TenantId t = f.tenant();
  const std::uint32_t buffer = *f.core.add_buffer(t, false);
  CHECK(f.core.submit(t, std::vector{with_buffer(task(1), buffer, AIOS_MODE_WRITE)}, 1)
            .error()
            .code() == Code::invalid_argument);
  CHECK(f.core.submit(t, std::vector{with_buffer(task(1), buffer, AIOS_MODE_READ)}, 1));
}

TEST_CASE("A buffer is busy while an unfinished task names it") {
  Fixture f;
  const TenantId t = f.tenant();
  const std::uint32_t buffer = *f.core.add_buffer(t, false);
  f.submit(t, {with_buffer(task(1), buffer, AIOS_MODE_READ)});
  CHECK(f.core.release_buffer(t, buffer).error().code() == Code::busy);
  f.ok(1);
  CHECK(f.core.release_buffer(t, buffer));
  CHECK(f.core.release_buffer(t, buffer).error().code() == Code::not_found);
}

TEST_CASE("Codelets, buffers, tenants and users have quotas") {
  Fixture f;
  const TenantId t = f.tenant();
  for (std::uint32_t i = 1; i < max_codelets_per_tenant; ++i) CHECK(f.core.add_codelet(t, {}));
  CHECK(f.core.add_codelet(t, {}).error().code() == Code::quota);
  for (std::uint32_t i = 0; i < max_buffers_per_user; ++i) CHECK(f.core.add_buffer(t, false));
  CHECK(f.core.add_buffer(t, false).error().code() == Code::quota);
  for (std::uint32_t i = 1; i < max_tenants_per_user; ++i)
    CHECK(f.core.open_tenant(1, "job", 1000));
  CHECK(f.core.open_tenant(1, "job", 1000).error().code() == Code::quota);
  CHECK(f.core.open_tenant(2, "job", 1000).error().code() == Code::quota);
  for (std::uint32_t i = 1; i < max_users; ++i) CHECK(f.core.open_tenant(10 + i, "job", 2000 + i));
  CHECK(f.core.open_tenant(5, "job", 3000).error().code() == Code::quota);
}

TEST_CASE("Pending tasks have a quota that fetched completions give back") {
  Fixture f;
  const TenantId t = f.tenant();
  std::vector<TaskRecord> batch;
  std::uint64_t tag = 0;
  for (std::uint32_t i = 0; i < max_pending_per_tenant / 1024; ++i) {
    batch.clear();
    for (int k = 0; k < 1024; ++k) batch.push_back(task(++tag));
    REQUIRE(f.core.submit(t, batch, 1));
  }
  CHECK(f.core.submit(t, std::vector{task(++tag)}, 1).error().code() == Code::quota);
  f.run();
  f.ok(1);
  CHECK(f.core.submit(t, std::vector{task(++tag)}, 1).error().code() == Code::quota);
  CHECK(f.completions(t).size() == 1);
  CHECK(f.core.submit(t, std::vector{task(++tag)}, 1));
}

TEST_CASE("A batch is 1 to 1024 tasks") {
  Fixture f;
  const TenantId t = f.tenant();
  CHECK(f.core.submit(t, {}, 1).error().code() == Code::invalid_argument);
  std::vector<TaskRecord> batch;
  for (std::uint64_t tag = 1; tag <= 1025; ++tag) batch.push_back(task(tag));
  CHECK(f.core.submit(t, batch, 1).error().code() == Code::invalid_argument);
}

TEST_CASE("Closing a job's last tenant drops its tasks and closes its context") {
  Fixture f(2);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2), task(3), task(4, {3})});
  f.core.close_tenant(t);
  f.run();
  CHECK(count(f, Action::Kind::close_context) == 1);
  CHECK(count(f, Action::Kind::tenant_closed) == 0);
  CHECK(f.core.devices()[0].running == 0);
  f.core.context_ended(1, 0, {How::exited, "", false});
  f.run();
  CHECK(count(f, Action::Kind::tenant_closed) == 1);
  CHECK(count(f, Action::Kind::job_closed) == 1);
  CHECK(f.core.submit(t, std::vector{task(9)}, 1).error().code() == Code::not_found);
}

TEST_CASE("A tenant that closes leaves the context to the other tenants of its job") {
  Fixture f(2);
  const TenantId a = f.tenant(1);
  const TenantId b = f.tenant(1);
  f.submit(a, {task(1)});
  f.submit(b, {task(2)});
  f.core.close_tenant(a);
  f.run();
  CHECK(count(f, Action::Kind::close_context) == 0);
  f.ok(1);
  CHECK(count(f, Action::Kind::tenant_closed) == 1);
  f.ok(2);
  CHECK(f.completion(b).tag == 2);
}

TEST_CASE("A tenant without tasks closes at once") {
  Fixture f;
  const TenantId t = f.tenant();
  f.core.close_tenant(t);
  f.run();
  CHECK(count(f, Action::Kind::tenant_closed) == 1);
  CHECK(count(f, Action::Kind::job_closed) == 1);
}

TEST_CASE("A job that is opened again while its context closes gets a new one") {
  Fixture f;
  f.submit(f.tenant(1), {task(1)});
  f.core.close_tenant(1);
  const TenantId again = f.tenant(1);
  f.submit(again, {task(2)});
  CHECK(f.running_tags() == Tags{1});
  f.running.clear();
  f.core.context_ended(1, 0, {How::exited, "", false});
  f.run();
  CHECK(f.opens.size() == 2);
  CHECK(f.running_tags() == Tags{2});
}

TEST_CASE("Completions are announced until somebody looks, and fetched in the order they came") {
  Fixture f(8);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2), task(3), task(4), task(5), task(6), task(7)});
  for (std::uint64_t tag = 7; tag >= 1; --tag) f.ok(tag);
  CHECK(count(f, Action::Kind::completions) == 1);
  Core::Completion some[5];
  CHECK(f.core.take_completions(t, some) == 5);
  CHECK(some[0].tag == 7);
  CHECK(some[4].tag == 3);
  CHECK(f.core.take_completions(t, some) == 2);
  CHECK(f.core.take_completions(t, some) == 0);
  f.submit(t, {task(8), task(9)});
  f.ok(8);
  CHECK(count(f, Action::Kind::completions) == 1);
  CHECK(f.core.finished(t).count == 1);
  CHECK(!f.core.finished(t).is_everything);
  f.ok(9);
  CHECK(count(f, Action::Kind::completions) == 2);
  CHECK(f.core.finished(t).count == 2);
  CHECK(f.core.finished(t).is_everything);
}

TEST_CASE("Listings show unfinished and finished tasks by number, and to others only their own") {
  using proto::scheduler::TaskState;
  Fixture f;
  const TenantId a = f.tenant(1, 1000);
  const TenantId b = f.tenant(2, 1001);
  f.submit(a, {task(71), task(72)});
  f.submit(b, {task(81, {}), task(82, {81})});
  f.ok(71);
  const auto numbers = [&](std::uint32_t uid, bool all) {
    Tags tags;
    for (auto t = f.core.next_task(0, uid, all); t.number != 0;
         t = f.core.next_task(t.number, uid, all))
      tags.push_back(t.tag);
    return tags;
  };
  CHECK(numbers(1000, false) == Tags{71, 72});
  CHECK(numbers(1001, false) == Tags{81, 82});
  CHECK(numbers(1, false).empty());
  CHECK(numbers(1, true) == Tags{71, 72, 81, 82});
  const auto first = f.core.next_task(0, 1000, false);
  CHECK(first.state == static_cast<std::uint32_t>(TaskState::done));
  CHECK(first.end_ns == 1'000'010);
  CHECK(first.device.view() == "cpu0");
  CHECK(first.codelet.view() == "work");
  CHECK(f.core.next_task(1, 1000, false).state == static_cast<std::uint32_t>(TaskState::running));
  CHECK(f.core.next_task(3, 1001, false).state == static_cast<std::uint32_t>(TaskState::waiting));
}

TEST_CASE("The load of a job is of all its tenants, and others see only their own jobs'") {
  Fixture f;
  const TenantId a = f.tenant(7, 1000);
  const TenantId again = f.tenant(7, 1000);
  const TenantId b = f.tenant(9, 1001);
  f.submit(a, {task(1), task(2, {1}), task(3, {2})});
  f.submit(again, {task(11)});
  f.submit(b, {task(21)});
  f.ok(1, 500);
  f.fail(11, Code::crashed, "it broke");
  const Core::Load load = f.core.next_load(0, 1000, false);
  CHECK(load.job_id == 7);
  CHECK(load.tasks_done == 1);
  CHECK(load.tasks_failed == 1);
  CHECK(load.busy_ns == 500);
  CHECK(load.waiting + load.running == 2);
  CHECK(f.core.next_load(7, 1000, false).job_id == 0);
  CHECK(f.core.next_load(0, 1001, false).job_id == 9);
  CHECK(f.core.next_load(7, 1, true).job_id == 9);
  CHECK(f.core.next_load(9, 1, true).job_id == 0);
  CHECK(f.core.next_load(0, 1, false).job_id == 0);
}

TEST_CASE("Joins are no load") {
  Fixture f;
  const TenantId t = f.tenant();
  TaskRecord join = task(2, {1});
  join.flags = proto::scheduler::task_flag::join;
  f.submit(t, {task(1), join});
  CHECK(f.core.next_load(0, 1000, false).running == 1);
  CHECK(f.core.next_load(0, 1000, false).waiting == 0);
  f.ok(1);
  const Core::Load load = f.core.next_load(0, 1000, false);
  CHECK(load.tasks_done == 1);
  CHECK(load.running + load.waiting == 0);
}

TEST_CASE("Listings skip thousands of finished tasks and keep the last 1024") {
  Fixture f(1);
  const TenantId t = f.tenant();
  for (std::uint64_t tag = 1; tag <= 3000; ++tag) {
    f.submit(t, {task(tag)});
    f.ok(tag);
    (void)f.completions(t);
  }
  f.submit(t, {task(3001)});
  CHECK(f.core.next_task(0, 1000, false).number == 3000 - 1024 + 1);
  CHECK(f.core.next_task(3000, 1000, false).tag == 3001);
  CHECK(f.core.next_task(3001, 1000, false).number == 0);
}

}  // namespace aios::scheduler
