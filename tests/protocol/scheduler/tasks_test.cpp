// Tasks through the real scheduler, driver and contexts.
#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "abi/include/aios/codelet.h"
#include "tests/protocol/scheduler/rig.hpp"

using namespace aios;
using namespace aios::scheduler::test;
using proto::scheduler::TaskRecord;

TEST_CASE("A task runs over its grid and its result comes back with its times") {
  Rig rig;
  Tenant tenant(rig, "one");
  TaskRecord record = make_task(7, tenant.codelet("good", "count"));
  record.grid[0] = 2;
  record.grid[1] = 3;
  record.grid[2] = 4;
  const auto done = tenant.run(record);
  CHECK(done.tag == 7);
  CHECK_MESSAGE(code(done) == Code::ok, tenant.failure(7));
  CHECK(done.attempts == 1);
  CHECK(done.result[0] == 24);
  CHECK(done.start_ns <= done.end_ns);
  CHECK(done.peak_memory_bytes > 0);
}

TEST_CASE("A chain through buffers gives each task what the one before it wrote") {
  Rig rig;
  Tenant tenant(rig, "one");
  const std::uint32_t increment = tenant.codelet("good", "increment");
  Region a = *Region::create(rig.kernel(), 4096, "a");
  Region b = *Region::create(rig.kernel(), 4096, "b");
  const std::uint32_t buffers[2] = {tenant.buffer(a, true), tenant.buffer(b, true)};
  std::vector<TaskRecord> chain;
  for (std::uint64_t tag = 1; tag <= 40; ++tag) {
    TaskRecord record = make_task(tag, increment);
    add_buffer(record, buffers[(tag + 1) % 2], AIOS_MODE_READ);
    add_buffer(record, buffers[tag % 2], AIOS_MODE_WRITE);
    if (tag > 1)
      record.dependencies[record.dependency_count++] = static_cast<std::uint32_t>(tag - 1);
    chain.push_back(record);
  }
  REQUIRE(tenant.submit(chain));
  for (const auto& done : tenant.complete(40)) CHECK(code(done) == Code::ok);
  CHECK(a.data()[100] == std::byte{40});
}

TEST_CASE("A released buffer is gone from the context and its number serves another") {
  Rig rig;
  Tenant tenant(rig, "one");
  const std::uint32_t increment = tenant.codelet("good", "increment");
  Region in = *Region::create(rig.kernel(), 4096, "in");
  const std::uint32_t input = tenant.buffer(in, false);
  for (std::uint64_t tag = 1; tag <= 3; ++tag) {
    Region out = *Region::create(rig.kernel(), 4096, "out");
    const std::uint32_t output = tenant.buffer(out, true);
    TaskRecord record = make_task(tag, increment);
    add_buffer(record, input, AIOS_MODE_READ);
    add_buffer(record, output, AIOS_MODE_WRITE);
    CHECK(code(tenant.run(record)) == Code::ok);
    CHECK(out.data()[4095] == std::byte{1});
    CHECK(wait_for<void>(
        rig.link(), [&](auto done) { tenant->release_buffer(output, soon(), std::move(done)); }));
  }
}

TEST_CASE("A codelet's own error fails its task at once with the message") {
  Rig rig;
  Tenant tenant(rig, "one");
  TaskRecord record = make_task(1, tenant.codelet("good", "fail"));
  const std::uint32_t words[2] = {0, static_cast<std::uint32_t>(Code::corrupt)};
  record.argument_bytes = sizeof words;
  std::memcpy(record.arguments, words, sizeof words);
  const auto done = tenant.run(record);
  CHECK(code(done) == Code::corrupt);
  CHECK(done.attempts == 1);
  CHECK(tenant.failure(1).find("block 0 gave up") != std::string::npos);
}

TEST_CASE("A module that cannot be loaded fails its tasks with the reason") {
  Rig rig;
  Tenant tenant(rig, "one");
  const std::uint32_t foreign = tenant.codelet("needs_library", "count");
  const std::uint32_t missing = tenant.codelet("good", "no_such_codelet");
  CHECK(code(tenant.run(make_task(1, foreign))) == Code::denied);
  CHECK(tenant.failure(1).find("libnuma") != std::string::npos);
  CHECK(code(tenant.run(make_task(2, missing))) == Code::not_found);
  CHECK(code(tenant.run(make_task(3, missing))) == Code::not_found);
}

TEST_CASE("A task that crashes is failed after it did so alone twice and its neighbours succeed") {
  Rig rig;
  Tenant tenant(rig, "one");
  const std::uint32_t good = tenant.codelet("good", "count");
  const std::uint32_t bad = tenant.codelet("faulty", "abort");
  std::vector<TaskRecord> tasks;
  for (std::uint64_t tag = 1; tag <= 20; ++tag)
    tasks.push_back(make_task(tag, tag == 5 ? bad : good));
  REQUIRE(tenant.submit(tasks));
  for (const auto& done : tenant.complete(20)) {
    INFO("task ", done.tag, ": ", tenant.failure(done.tag));
    CHECK(code(done) == (done.tag == 5 ? Code::crashed : Code::ok));
  }
  CHECK(tenant.failure(5).find("signal 6") != std::string::npos);
}

TEST_CASE("A task that is not idempotent is indeterminate after its context died") {
  Rig rig;
  Tenant tenant(rig, "one");
  TaskRecord record = make_task(1, tenant.codelet("faulty", "fault"));
  record.flags = 0;
  const auto done = tenant.run(record);
  CHECK(code(done) == Code::indeterminate);
  CHECK(done.attempts == 1);
}

TEST_CASE("A task over its time limit is timed out and the next one runs") {
  Rig rig;
  Tenant tenant(rig, "one");
  TaskRecord endless = make_task(1, tenant.codelet("faulty", "loop"));
  endless.limit_ns = 50 * ns_per_ms;
  const std::uint32_t good = tenant.codelet("good", "count");
  REQUIRE(tenant.submit({endless, make_task(2, good), make_task(3, good)}));
  const auto done = tenant.complete(3);
  CHECK(code(done[0]) == Code::timed_out);
  CHECK(tenant.failure(1).find("50 ms") != std::string::npos);
  CHECK(code(done[1]) == Code::ok);
  CHECK(code(done[2]) == Code::ok);
}

TEST_CASE("Tasks survive the kill of their context and of the driver") {
  Rig rig;
  Tenant tenant(rig, "one");
  const std::uint32_t loop = tenant.codelet("faulty", "loop");
  const std::uint32_t good = tenant.codelet("good", "count");
  TaskRecord endless = make_task(1, loop);
  endless.limit_ns = 3 * ns_per_s;
  REQUIRE(tenant.submit({endless, make_task(2, good)}));
  rig.await_contexts(1);
  rig.kill_driver();
  CHECK(rig.contexts().size() == 1);
  rig.kill(rig.contexts().front());
  rig.start_driver();
  const auto done = tenant.complete(2);
  CHECK(code(done[0]) == Code::timed_out);
  CHECK(done[0].attempts >= 1);
  CHECK(code(done[1]) == Code::ok);
}

namespace {

/// As many of these as the device has slots, and of its threads.
std::vector<TaskRecord> one_for_each_slot(Rig& rig, const TaskRecord& model) {
  const auto device = rig.client().call<proto::scheduler::DeviceNext>({0}, soon());
  REQUIRE(device);
  std::vector<TaskRecord> tasks(device->device.threads, model);
  for (std::size_t i = 0; i < tasks.size(); ++i) tasks[i].tag = i + 1;
  return tasks;
}

}  // namespace

TEST_CASE("Nobody waits for a context that does not go on, and when it does its tasks end") {
  Rig rig;
  Tenant stuck(rig, "stuck"), other(rig, "other");
  const auto tasks = one_for_each_slot(rig, make_task(1, stuck.codelet("good", "count")));
  REQUIRE(code(stuck.run(tasks.front())) == Code::ok);
  REQUIRE(rig.contexts().size() == 1);
  const std::uint64_t context = rig.contexts().front();
  rig.signal(context, SIGSTOP);
  REQUIRE(stuck.submit(tasks));
  CHECK(code(other.run(make_task(1, other.codelet("good", "count")))) == Code::ok);
  rig.signal(context, SIGCONT);
  for (const auto& done : stuck.complete(tasks.size())) {
    CHECK(code(done) == Code::ok);
    CHECK(done.attempts == 1);
  }
}

TEST_CASE("A context that keeps no time limit is ended and its successor serves") {
  Rig rig;
  Tenant tenant(rig, "one");
  const std::uint32_t good = tenant.codelet("good", "count");
  REQUIRE(code(tenant.run(make_task(1, good))) == Code::ok);
  const std::uint64_t context = rig.contexts().front();
  rig.signal(context, SIGSTOP);
  TaskRecord limited = make_task(2, good);
  limited.limit_ns = 50 * ns_per_ms;
  const auto done = tenant.run(limited);
  CHECK(code(done) == Code::timed_out);
  // Its buffers are the client's again: nothing of the context is left that could write there.
  CHECK(std::ranges::count(rig.contexts(), context) == 0);
  CHECK(tenant.failure(2).find("did not end it at its time limit") != std::string::npos);
  CHECK(code(tenant.run(make_task(3, good))) == Code::ok);
  REQUIRE(rig.contexts().size() == 1);
  CHECK(rig.contexts().front() != context);
}

TEST_CASE("Before the driver is there tasks wait, and nothing fails") {
  Rig rig(Rig::With::no_driver);
  Tenant tenant(rig, "one");
  REQUIRE(tenant.submit({make_task(1, tenant.codelet("good", "count"))}));
  rig.start_driver();
  CHECK(code(tenant.complete(1).front()) == Code::ok);
}

TEST_CASE("What nothing can run ends with the reason as soon as the drivers have answered") {
  Rig rig(Rig::With::no_driver);
  Tenant tenant(rig, "one");
  const std::uint32_t good = tenant.codelet("good", "count");
  auto elsewhere = make_task(1, good);
  elsewhere.device = 10;
  auto after = make_task(3, good);
  after.device = 10;
  after.dependencies[after.dependency_count++] = 2;
  REQUIRE(tenant.submit({elsewhere, make_task(2, good), after}));
  rig.start_driver();
  const auto all = tenant.complete(3);
  CHECK(code(all[0]) == Code::invalid_argument);
  CHECK(tenant.failure(1) == "task 1: there is no device 9");
  CHECK(code(all[1]) == Code::ok);
  CHECK(code(all[2]) == Code::invalid_argument);
}

TEST_CASE("Tasks do not wait for a driver that was given up, and it is taken when it comes back") {
  Rig rig(Rig::With::no_driver);
  Tenant tenant(rig, "one");
  const std::uint32_t good = tenant.codelet("good", "count");
  REQUIRE(tenant.submit({make_task(1, good)}));
  rig.give_driver_up();
  CHECK(code(tenant.complete(1).front()) == Code::not_supported);
  CHECK(tenant.failure(1).find("nothing has been heard yet of these drivers: cpu") !=
        std::string::npos);
  const auto refused = tenant.submit({make_task(2, good)});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == Code::not_supported);
  rig.give_driver_up(false);
  rig.start_driver();
  const Deadline deadline = soon();
  while (!tenant.submit({make_task(3, good)})) {
    REQUIRE(!deadline.passed());
    ::poll(nullptr, 0, 5);  // a client is not told of devices that come
  }
  CHECK(code(tenant.complete(1).front()) == Code::ok);
}

TEST_CASE("Two jobs never share a context and a job's tenants share one") {
  Rig rig;
  Tenant one(rig, "one"), two(rig, "two");
  CHECK(code(one.run(make_task(1, one.codelet("good", "count")))) == Code::ok);
  CHECK(code(two.run(make_task(1, two.codelet("good", "count")))) == Code::ok);
  CHECK(rig.contexts().size() == 2);
}

TEST_CASE("Closing a tenant ends its context") {
  Rig rig;
  Tenant tenant(rig, "one");
  CHECK(code(tenant.run(make_task(1, tenant.codelet("good", "count")))) == Code::ok);
  CHECK(rig.contexts().size() == 1);
  CHECK(tenant.close());
  rig.await_contexts(0);
  CHECK(tenant.reopen());
  CHECK(code(tenant.run(make_task(1, tenant.codelet("good", "count")))) == Code::ok);
}

TEST_CASE("When a client goes its contexts end, even in the middle of an endless task") {
  Rig rig;
  {
    Tenant tenant(rig, "one");
    REQUIRE(tenant.submit({make_task(1, tenant.codelet("faulty", "loop"))}));
    rig.await_contexts(1);
    rig.client().disconnect();
  }
  rig.await_contexts(0);
}

TEST_CASE("Who opens a tenant again is answered when nothing of its last life runs") {
  using State = proto::scheduler::TaskState;
  Rig rig;
  Tenant tenant(rig, "one");
  // Keeps the job's context.
  TaskTenant beside(rig.link());
  REQUIRE(wait_for<void>(rig.link(),
                         [&](auto done) { beside.open(tenant.job(), soon(), std::move(done)); }));
  TaskRecord endless = make_task(1, tenant.codelet("faulty", "loop"));
  endless.limit_ns = 300 * ns_per_ms;
  const auto state = [&](std::uint64_t after) {
    return static_cast<State>(
        rig.client().call<proto::scheduler::TaskNext>({after}, soon())->state);
  };
  REQUIRE(tenant.submit({endless}));
  while (state(0) != State::running) {
  }
  // As after a link that broke, and of which the scheduler has not heard.
  REQUIRE(tenant.reopen());
  CHECK(state(0) == State::failed);
  const std::uint32_t loop = tenant.codelet("faulty", "loop");
  REQUIRE(tenant.submit({make_task(1, loop)}));
  while (state(1) != State::running) {
  }
  // Another one does not wait, and neither does the last of a job, whose context ends with it.
  Tenant other(rig, "two");
  CHECK(state(1) == State::running);
  CHECK(wait_for<void>(rig.link(), [&](auto done) { beside.close(soon(), std::move(done)); }));
  REQUIRE(tenant.reopen());
  CHECK(code(tenant.run(make_task(1, tenant.codelet("good", "count")))) == Code::ok);
}

TEST_CASE("When the scheduler dies calls end with peer_closed and its successor serves") {
  Rig rig;
  Tenant tenant(rig, "one");
  REQUIRE(tenant.submit({make_task(1, tenant.codelet("faulty", "loop"))}));
  rig.await_contexts(1);
  Result<TaskTenant::Completions> outcome = error(Code::internal);
  bool done = false;
  tenant->completions(soon(), [&](auto result) {
    outcome = std::move(result);
    done = true;
  });
  rig.client().work();
  rig.restart_scheduler();
  while (!done)
    if (!rig.client().work() && !done) rig.client().wait(soon());
  CHECK(outcome.error().code() == Code::peer_closed);
  CHECK(tenant.submit({make_task(2, 0)}).error().code() == Code::peer_closed);
  REQUIRE(tenant.reopen());
  CHECK(code(tenant.run(make_task(1, tenant.codelet("good", "count")))) == Code::ok);
}

TEST_CASE("Contexts that a dead scheduler left make room for those of other jobs") {
  constexpr std::size_t most_of_one_user = 16;
  Rig rig;
  std::vector<std::unique_ptr<Tenant>> tenants;
  for (std::size_t i = 0; i < most_of_one_user; ++i) {
    tenants.push_back(std::make_unique<Tenant>(rig, "job-" + std::to_string(i)));
    Tenant& tenant = *tenants.back();
    REQUIRE(code(tenant.run(make_task(1, tenant.codelet("good", "count")))) == Code::ok);
  }
  CHECK(rig.contexts().size() == most_of_one_user);
  rig.restart_scheduler();
  CHECK(tenants.front()->submit({make_task(2, 0)}).error().code() == Code::peer_closed);
  Tenant other(rig, "other");
  CHECK(code(other.run(make_task(1, other.codelet("good", "count")))) == Code::ok);
  rig.await_contexts(most_of_one_user);
}

namespace {

/// One of two that are done when `members` have come to the buffer.
TaskRecord meeting(std::uint64_t tag, std::uint32_t codelet, std::uint32_t buffer,
                   std::uint32_t members) {
  TaskRecord record = make_task(tag, codelet);
  record.flags |= proto::scheduler::task_flag::gang;
  record.gang = 5;
  record.gang_size = 2;
  add_buffer(record, buffer, AIOS_MODE_READ_WRITE);
  std::memcpy(record.arguments, &members, sizeof members);
  record.argument_bytes = sizeof members;
  return record;
}

std::uint32_t threads_of(Rig& rig, Tenant& tenant) {
  const auto device = wait_for<proto::scheduler::DeviceNext::Reply>(
      rig.link(), [&](auto done) { tenant->device(0, soon(), std::move(done)); });
  REQUIRE_MESSAGE(device, device.error().to_string());
  return device->device.threads;
}

}  // namespace

TEST_CASE("The tasks of a gang are there at the same time, also when their context was killed") {
  Rig rig;
  Tenant tenant(rig, "one");
  const std::uint32_t meet = tenant.codelet("graph_work", "meet");
  // It is known how many there are once a task has run.
  REQUIRE(code(tenant.run(make_task(1, tenant.codelet("good", "count")))) == Code::ok);
  const std::uint32_t threads = threads_of(rig, tenant);
  if (threads < 2) {
    MESSAGE("one thread: no gang fits");
    return;
  }
  Region region = *Region::create(rig.kernel(), 4096, "here");
  const std::uint32_t here = tenant.buffer(region, true);
  REQUIRE(tenant.submit({meeting(2, meet, here, 2)}));
  REQUIRE(tenant.submit({meeting(3, meet, here, 2)}));
  for (const auto& done : tenant.complete(2))
    CHECK_MESSAGE(code(done) == Code::ok, tenant.failure(done.tag));

  // Two of three, until they come once more.
  Region again = *Region::create(rig.kernel(), 4096, "again");
  const std::uint32_t there = tenant.buffer(again, true);
  REQUIRE(tenant.submit({meeting(4, meet, there, 3), meeting(5, meet, there, 3)}));
  const auto* count = reinterpret_cast<const std::uint32_t*>(again.data());
  const Deadline deadline = soon();
  while (__atomic_load_n(count, __ATOMIC_SEQ_CST) < 2) {
    REQUIRE(!deadline.passed());
    ::poll(nullptr, 0, 1);  // nothing tells of it
  }
  rig.kill(rig.contexts().front());
  for (const auto& done : tenant.complete(2)) {
    CHECK_MESSAGE(code(done) == Code::ok, tenant.failure(done.tag));
    CHECK(done.attempts == 2);
  }

  std::vector<TaskRecord> many;
  for (std::uint32_t i = 0; i <= threads; ++i) {
    many.push_back(meeting(100 + i, meet, here, 2));
    many.back().gang_size = threads + 1;
  }
  const Result<void> refused = tenant.submit(many);
  REQUIRE(!refused);
  CHECK(refused.error().code() == Code::not_supported);
  CHECK(refused.error().message().find("can never start") != std::string::npos);
}

TEST_CASE("A call with handles that the scheduler's death leaves unsent ends with peer_closed") {
  Rig rig;
  Tenant tenant(rig, "one");
  const Region region = *module_region(rig.kernel(), std::vector<std::byte>(64));
  rig.restart_scheduler();
  const auto codelet = wait_for<std::uint32_t>(rig.link(), [&](auto done) {
    tenant->register_codelet(region.handle(), 0, region.size(), "count", "count",
                             proto::driver::backend::cpu, soon(), std::move(done));
  });
  CHECK(codelet.error().code() == Code::peer_closed);
  const auto buffer = wait_for<std::uint32_t>(rig.link(), [&](auto done) {
    tenant->register_buffer(region.handle(), 0, region.size(), true, soon(), std::move(done));
  });
  CHECK(buffer.error().code() == Code::peer_closed);
}

TEST_CASE("Devices and tasks are listed") {
  Rig rig;
  Tenant tenant(rig, "one");
  CHECK(code(tenant.run(make_task(77, tenant.codelet("good", "count")))) == Code::ok);
  const auto device = rig.client().call<proto::scheduler::DeviceNext>({0}, soon());
  REQUIRE(device);
  CHECK(device->device.count == 1);
  CHECK(device->device.kind.view() == "cpu");
  CHECK(device->device.contexts == 1);
  CHECK(device->tasks_done == 1);
  CHECK(rig.client().call<proto::scheduler::DeviceNext>({1}, soon()).error().code() ==
        Code::not_found);
  const auto task = rig.client().call<proto::scheduler::TaskNext>({0}, soon());
  REQUIRE(task);
  CHECK(task->tag == 77);
  CHECK(task->codelet.view() == "good:count");
  CHECK(task->device.view() == "cpu0");
  CHECK(task->job_name.view() == "one");
  CHECK(rig.client().call<proto::scheduler::TaskNext>({task->number}, soon())->number == 0);
}
