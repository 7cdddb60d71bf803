#include "tests/unit/scheduler/fixture.hpp"

namespace aios::scheduler {

TEST_CASE("A run that answers an error fails its task for good, with the message") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  f.begin_all();
  f.fail(1, Code::invalid_argument, "bad record at byte 7");
  const Core::Completion c = f.completion(t);
  CHECK(c.status == static_cast<std::uint32_t>(Code::invalid_argument));
  CHECK(c.attempts == 1);
  CHECK(*f.core.failure(t, 1) == "bad record at byte 7");
  CHECK(f.started == Tags{1});
}

TEST_CASE("A task that is not idempotent is indeterminate when its context dies under it") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {once(task(1))});
  f.begin_all();
  f.end_context(How::fault);
  CHECK(f.status(t) == Code::indeterminate);
  CHECK(f.core.failure(t, 1)->find("segmentation fault") != std::string::npos);
}

TEST_CASE("A task whose run was not sent yet is retried even when it is not idempotent") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {once(task(1))});
  f.end_context(How::fault);
  CHECK(f.running_tags() == Tags{1});
  f.ok(1);
  CHECK(f.completion(t).attempts == 2);
}

TEST_CASE("Suspects run alone in their job's context until they succeed") {
  Fixture f(3);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2), task(3), task(4)});
  CHECK(f.running_tags() == Tags{1, 2, 3});
  f.begin_all();
  f.end_context(How::fault);
  CHECK(f.running_tags() == Tags{1});
  f.ok(1);
  CHECK(f.running_tags() == Tags{2});
  f.ok(2);
  CHECK(f.running_tags() == Tags{3});
  f.ok(3);
  CHECK(f.running_tags() == Tags{4});
  f.submit(t, {task(5), task(6)});
  CHECK(f.running_tags() == Tags{4, 5, 6});
}

TEST_CASE("A suspect waits until the others in the context are done and nobody passes it") {
  Fixture f(3);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2), task(3)});
  f.end_context(How::fault);
  f.ok(1);
  CHECK(f.running_tags() == Tags{2});
  f.submit(t, {task(9, {}, 5)});
  CHECK(f.running_tags() == Tags{2});  // 2 runs alone
  f.ok(2);
  CHECK(f.running_tags() == Tags{9});  // by priority; the suspect 3 does not join it
  f.submit(t, {task(10)});
  CHECK(f.running_tags() == Tags{9});
  f.ok(9);
  CHECK(f.running_tags() == Tags{3});
}

TEST_CASE("Suspects of one job do not hold up another job") {
  Fixture f(2);
  const TenantId a = f.tenant(1);
  const TenantId b = f.tenant(2);
  f.submit(a, {task(1), task(2)});
  f.end_context(How::fault);
  CHECK(f.running_tags() == Tags{1});
  f.submit(b, {task(11)});
  CHECK(f.running_tags() == Tags{1, 11});
}

TEST_CASE("A task that crashes its context twice while it runs alone is failed with the cause") {
  Fixture f(2);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2)});
  f.begin_all();
  f.end_context(How::fault);
  CHECK(f.completions(t).empty());
  f.end_context(How::fault);  // 1 alone, once
  CHECK(f.running_tags() == Tags{1});
  f.end_context(How::fault, "abort (signal 6)");
  const Core::Completion c = f.completion(t);
  CHECK(c.tag == 1);
  CHECK(c.status == static_cast<std::uint32_t>(Code::crashed));
  CHECK(c.attempts == 3);
  CHECK(*f.core.failure(t, 1) ==
        "it crashed its context twice while it ran alone: abort (signal 6)");
  CHECK(f.running_tags() == Tags{2});
}

TEST_CASE("A kill from outside consumes an attempt and does not condemn before the eighth") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  for (int i = 0; i < 7; ++i) {
    f.begin_all();
    f.end_context(How::killed, "killed by SIGKILL");
    CHECK(f.running_tags() == Tags{1});
  }
  f.end_context(How::killed, "killed by SIGKILL");
  const Core::Completion c = f.completion(t);
  CHECK(c.status == static_cast<std::uint32_t>(Code::crashed));
  CHECK(c.attempts == 8);
}

TEST_CASE("A task at its time limit is final and its neighbours are retried side by side") {
  // By itself, by the driver's hand, or by one that followed it since.
  for (const How how : {How::limit, How::killed, How::none}) {
    Fixture f(3);
    const TenantId t = f.tenant();
    f.submit(t, {task(1), task(2), task(3)});
    f.begin_all();
    f.fail(1, Code::timed_out, "it ran longer than 5 ms");
    f.end_context(how, "time limit");
    const Core::Completion c = f.completion(t);
    CHECK(c.tag == 1);
    CHECK(c.status == static_cast<std::uint32_t>(Code::timed_out));
    CHECK(*f.core.failure(t, 1) == "it ran longer than 5 ms");
    CHECK(f.running_tags() == Tags{2, 3});
  }
}

TEST_CASE("Where the one that lost the device was told so, the others are not suspected") {
  Fixture f(2);
  f.core.set_device(0, 2, true, "gpu0", aios::proto::driver::backend::cuda);
  const TenantId t = f.tenant();
  REQUIRE(f.core.add_codelet(t, {}, aios::proto::driver::backend::cuda));
  std::vector<TaskRecord> tasks{task(1), task(2), task(3)};
  for (TaskRecord& one : tasks) one.codelet = 1;
  f.submit(t, tasks);
  f.begin_all();
  f.fail(1, Code::crashed, "an illegal address");
  f.begin_all();
  f.end_context(How::fault);
  CHECK(f.status(t) == Code::crashed);
  CHECK(f.running_tags() == Tags{2, 3});
  // What is not told of the next fault is nobody's yet.
  f.begin_all();
  f.end_context(How::fault);
  CHECK(f.running_tags() == Tags{2});
  f.end_context(How::fault);
  CHECK(f.completions(t).empty());
}

TEST_CASE("What a processor's codelet throws excuses no crash of its context") {
  Fixture f(2);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2)});
  f.begin_all();
  f.fail(1, Code::crashed, "it threw");
  CHECK(f.status(t) == Code::crashed);
  f.end_context(How::fault);
  f.begin_all();
  f.end_context(How::fault);
  CHECK(f.status(t) == Code::crashed);
}

TEST_CASE("The only task of a context that ended by its limit unanswered is timed out") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  f.begin_all();
  f.end_context(How::limit, "a task exceeded its limit of 5 ms");
  CHECK(f.status(t) == Code::timed_out);
}

TEST_CASE(
    "A module that does not load within its limit is its task's end and not its neighbour's") {
  Fixture f(2);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2)});
  f.core.task_begun(f.running[2]);
  f.end_context(How::limit, "a module took longer than 10 s to load");
  const Core::Completion c = f.completion(t);
  CHECK(c.tag == 1);
  CHECK(c.status == static_cast<std::uint32_t>(Code::timed_out));
  CHECK(f.running_tags() == Tags{2});
}

TEST_CASE("A lost context frees its slots at once and its tasks wait for the verdict") {
  Fixture f(1);
  const TenantId a = f.tenant(1);
  const TenantId b = f.tenant(2);
  f.submit(a, {task(1)});
  f.submit(b, {task(11)});
  f.lose_context(1);
  f.run();
  CHECK(f.running_tags() == Tags{11});
  CHECK(f.core.devices()[0].running == 1);
  f.core.context_ended(1, 0, {How::killed, "killed", false});
  f.core.context_ready(1, 0);
  f.ok(11);
  CHECK(f.running_tags() == Tags{1});
}

TEST_CASE("An answer that arrives after the context was lost still counts") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  const TaskRef ref = f.running[1];
  f.lose_context();
  f.core.task_answered(ref, Core::RunReply{});
  f.core.context_ended(1, 0, {How::killed, "", false});
  CHECK(f.completion(t).status == 0);
}

TEST_CASE("An answer to a task that is no longer running is ignored") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  const TaskRef ref = f.running[1];
  f.ok(1);
  f.core.task_answered(ref, Core::RunReply{});
  CHECK(f.completions(t).size() == 1);
}

TEST_CASE("A refused context fails its job's tasks with the reason") {
  Fixture f;
  f.hold_contexts = true;
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2, {1})});
  f.core.context_refused(1, 0, Status(Code::quota, "the job may have no more processes"));
  const auto all = f.completions(t);
  REQUIRE(all.size() == 2);
  CHECK(all[0].status == static_cast<std::uint32_t>(Code::quota));
  CHECK(all[1].status == static_cast<std::uint32_t>(Code::cancelled));
  CHECK(*f.core.failure(t, 1) == "the job may have no more processes");
  f.run();
  CHECK(f.opens.size() == 1);
  f.submit(t, {task(3)});
  CHECK(f.opens.size() == 2);
}

TEST_CASE("A refused successor leaves what had begun indeterminate") {
  Fixture f(2);
  const TenantId t = f.tenant();
  f.submit(t, {once(task(1)), task(2)});
  f.begin_all();
  f.lose_context();
  f.core.context_refused(1, 0, Status(Code::denied, "the job was killed"));
  const auto all = f.completions(t);
  REQUIRE(all.size() == 2);
  CHECK(all[0].status == static_cast<std::uint32_t>(Code::indeterminate));
  CHECK(all[1].status == static_cast<std::uint32_t>(Code::denied));
}

namespace {

/// A second device, of another kind, and a codelet for both of them.
std::uint32_t with_gpu(Fixture& f, TenantId tenant) {
  using namespace proto::driver;
  f.core.set_device(1, 1, true, "gpu1", backend::cuda);
  return *f.core.add_codelet(tenant, proto::Text<64>::from("both"), backend::cpu | backend::cuda);
}

TaskRecord on(std::uint32_t device, TaskRecord record) {
  record.device = device + 1;
  return record;
}

}  // namespace

TEST_CASE("When a device is gone, what ran there goes elsewhere if it can, else it fails") {
  Fixture f;
  const TenantId t = f.tenant();
  const std::uint32_t both = with_gpu(f, t);
  TaskRecord pinned = on(1, task(1));
  pinned.codelet = both;
  f.submit(t, {pinned});
  REQUIRE(f.running_tags() == Tags{1});
  f.running.clear();
  f.core.context_lost(1, 1);
  f.core.context_refused(1, 1, Status(Code::service_down, "the device is gone"));
  f.run();
  CHECK(f.status(t) == Code::service_down);
  CHECK(*f.core.failure(t, 1) == "the device is gone");

  f.core.set_device(0, 1, false, "cpu0");
  TaskRecord any = task(2);
  any.codelet = both;
  f.submit(t, {any});
  REQUIRE(f.running_tags() == Tags{2});
  f.core.set_device(0, 1, true, "cpu0");
  f.running.clear();
  f.core.context_lost(1, 1);
  f.core.context_refused(1, 1, Status(Code::service_down, "the device is gone"));
  f.run();
  CHECK(f.running_tags() == Tags{2});
  CHECK(f.core.find(f.running[2])->device == 0);
}

TEST_CASE("A task that waits for a device that is gone fails, and a new one is refused") {
  Fixture f;
  f.hold_contexts = true;
  const TenantId t = f.tenant();
  const std::uint32_t both = with_gpu(f, t);
  f.core.all_devices_known();
  TaskRecord pinned = on(1, task(1, {}));
  pinned.codelet = both;
  f.submit(t, {pinned});
  f.core.set_device(1, 1, false, "gpu1", proto::driver::backend::cuda);
  // Its context is being opened: that is waited for.
  CHECK(f.completions(t).empty());
  f.core.context_refused(1, 1, Status(Code::service_down, "the device is gone"));
  CHECK(f.status(t) == Code::service_down);

  pinned.tag = 2;
  const auto refused = f.core.submit(t, std::span(&pinned, 1), 1);
  REQUIRE(!refused);
  CHECK(refused.error().code() == Code::service_down);
  f.core.set_device(1, 1, true, "gpu1", proto::driver::backend::cuda);
  CHECK(f.core.submit(t, std::span(&pinned, 1), 1));
}

TEST_CASE("Of the failures the last 256 are remembered and consequences do not push out reasons") {
  Fixture f;
  const TenantId t = f.tenant();
  for (std::uint64_t tag = 1; tag <= 257; ++tag) {
    f.submit(t, {task(tag)});
    f.fail(tag, Code::internal, "no");
  }
  CHECK(f.core.failure(t, 1).error().code() == Code::not_found);
  CHECK(f.core.failure(t, 2));
  f.submit(t, {task(1000, {257})});
  CHECK(f.core.failure(t, 2));
}

}  // namespace aios::scheduler
