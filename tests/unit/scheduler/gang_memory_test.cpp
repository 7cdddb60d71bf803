// Gangs on a device with a memory of its own: all members have room at once, or wait for it.
#include "tests/unit/scheduler/memory_rig.hpp"

namespace aios::scheduler {

using namespace memory_rig;

namespace {

/// Of gang 1, which has two.
TaskRecord member(std::uint64_t tag, std::initializer_list<std::uint32_t> buffers) {
  TaskRecord record = Rig::use(tag, buffers);
  record.flags |= proto::scheduler::task_flag::gang;
  record.gang = 1;
  record.gang_size = 2;
  return record;
}

TaskRecord on(DeviceId device, TaskRecord record) {
  record.device = device + 1;
  return record;
}

bool both_run(const Rig& r) {
  return r.running.contains(11) && r.running.contains(12);
}

bool none_runs(const Rig& r) {
  return !r.running.contains(11) && !r.running.contains(12);
}

}  // namespace

TEST_CASE("A gang whose data no memories hold at the same time is refused, or goes where it fits") {
  for (const char* policy : {"eager", "learned"}) {
    CAPTURE(policy);
    Rig r(policy);
    const TenantId there = r.tenant(1, only_gpu);
    const std::uint32_t large = r.buffer(there, 600), small = r.buffer(there, 400);
    const auto refused =
        r.submit(there, {member(11, {large}), member(12, {small, r.buffer(there, 1)})});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code() == Code::no_memory);
    CHECK(refused.error().message() ==
          "task 12: its gang 1 can never start: it has 2 members, and the devices that they may "
          "run on have no memories that hold their data at the same time");
    REQUIRE(r.submit(there, {member(11, {large}), member(12, {small})}));
    CHECK(both_run(r));
    CHECK(r.resident() == 1000);
    r.end(11);
    r.end(12);
    r.core.close_tenant(there);
    r.end_context(1, false);
    const TenantId anywhere = r.tenant(2, both);
    REQUIRE(r.submit(
        anywhere, {member(11, {r.buffer(anywhere, 600)}), member(12, {r.buffer(anywhere, 600)})}));
    CHECK(both_run(r));
    CHECK(r.on.at(11) != r.on.at(12));
  }
}

TEST_CASE("A gang waits until copies of other jobs have left, and none of it starts before") {
  for (const char* policy : {"eager", "learned"}) {
    CAPTURE(policy);
    Rig r(policy);
    const TenantId first = r.tenant(1, only_gpu), second = r.tenant(2, only_gpu);
    REQUIRE(r.submit(first, {Rig::use(1, {r.buffer(first, 600)})}));
    r.end(1);
    REQUIRE(r.submit(second,
                     {member(11, {r.buffer(second, 300)}), member(12, {r.buffer(second, 300)})}));
    CHECK(none_runs(r));
    CHECK(r.evicted.size() == 1);
    CHECK(r.core.memory_awaited_by(2, 1000, false) ==
          "its gang waits until members of it have room in the memory of gpu1: until tasks there "
          "end, copies leave it, or contexts go on that keep it");
    r.let_go();
    CHECK(both_run(r));
    CHECK(r.resident() == 600);
    CHECK(r.core.memory_awaited_by(2, 1000, false).empty());
  }
}

TEST_CASE("What a gang waits for is kept for it, until tasks that use the memory have ended") {
  Rig r("eager");
  const TenantId first = r.tenant(1, both), second = r.tenant(2, both);
  REQUIRE(r.submit(first, {on(gpu, Rig::use(1, {r.buffer(first, 600)}))}));
  REQUIRE(
      r.submit(second, {on(gpu, member(11, {r.buffer(second, 600)})), on(cpu, member(12, {}))}));
  CHECK(none_runs(r));
  REQUIRE(r.submit(first, {on(gpu, Rig::use(2, {r.buffer(first, 300)}))}));
  CHECK_FALSE(r.running.contains(2));
  r.end(1);
  CHECK(none_runs(r));
  r.let_go();
  CHECK(both_run(r));
}

TEST_CASE("A gang that waits for a context to go on keeps no slots, and goes elsewhere if it may") {
  for (const char* policy : {"eager", "learned"}) {
    CAPTURE(policy);
    Rig r(policy);
    const TenantId first = r.tenant(1, only_gpu), second = r.tenant(2, both);
    REQUIRE(r.submit(first, {Rig::use(1, {r.buffer(first, 600)})}));
    r.end(1);
    r.stall(1);
    const std::uint32_t a = r.buffer(second, 600), b = r.buffer(second, 100);
    // Of the device it wants nothing that is free.
    REQUIRE(r.submit(second, {member(11, {a}), member(12, {b})}));
    REQUIRE(both_run(r));
    CHECK(r.on.at(11) == cpu);
    r.end(11);
    r.end(12);
    REQUIRE(r.submit(second, {on(gpu, member(11, {a})), on(cpu, member(12, {b}))}));
    CHECK(none_runs(r));
    // Both slots of the processor are others' to take.
    const TenantId third = r.tenant(3, both);
    REQUIRE(r.submit(third, {on(cpu, Rig::use(21, {})), on(cpu, Rig::use(22, {}))}));
    CHECK(r.running.contains(21));
    CHECK(r.running.contains(22));
    r.end(21);
    r.resume(1);
    r.let_go();
    r.end(22);
    CHECK(both_run(r));
  }
}

TEST_CASE("A gang whose memory tasks have for long keeps no slots meanwhile, and starts later") {
  Rig r("learned");
  const TenantId first = r.tenant(1, only_gpu), second = r.tenant(2, both);
  REQUIRE(r.submit(first, {Rig::use(1, {r.buffer(first, 600)})}));
  REQUIRE(
      r.submit(second, {on(gpu, member(11, {r.buffer(second, 600)})), on(cpu, member(12, {}))}));
  CHECK(none_runs(r));
  const TenantId third = r.tenant(3, both);
  REQUIRE(r.submit(third, {on(cpu, Rig::use(21, {})), on(cpu, Rig::use(22, {}))}));
  CHECK(r.running.contains(21));
  CHECK_FALSE(r.running.contains(22));
  r.now += 2'000 * ToldCore::ms;
  r.run();
  r.run();
  CHECK(r.running.contains(22));
  r.end(1);
  r.end(21);
  r.let_go();
  CHECK(both_run(r));
}

}  // namespace aios::scheduler
