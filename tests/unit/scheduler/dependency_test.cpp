#include "tests/unit/scheduler/fixture.hpp"

namespace aios::scheduler {

TEST_CASE("A chain runs one after the other") {
  Fixture f(4);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2, {1}), task(3, {2})});
  CHECK(f.running_tags() == Tags{1});
  f.ok(1);
  CHECK(f.running_tags() == Tags{2});
  f.ok(2);
  CHECK(f.running_tags() == Tags{3});
  f.ok(3);
  CHECK(f.completions(t).size() == 3);
}

TEST_CASE("The foot of a diamond waits for both of its sides") {
  Fixture f(4);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2, {1}), task(3, {1}), task(4, {2, 3})});
  f.ok(1);
  CHECK(f.running_tags() == Tags{2, 3});
  f.ok(3);
  CHECK(f.running_tags() == Tags{2});
  f.ok(2);
  CHECK(f.running_tags() == Tags{4});
}

TEST_CASE("A dependency on a finished task is satisfied") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  f.ok(1);
  f.submit(t, {task(2, {1})});
  CHECK(f.running_tags() == Tags{2});
}

TEST_CASE("Naming a dependency twice is the same as naming it once") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2, {1, 1})});
  f.ok(1);
  CHECK(f.running_tags() == Tags{2});
}

TEST_CASE("What depends on a failed task is cancelled, and what depends on that") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2, {1, 1}), task(3, {2}), task(4)});
  f.fail(1, Code::io_error, "the disk is gone");
  const auto all = f.completions(t);
  REQUIRE(all.size() == 3);
  CHECK(all[0].tag == 1);
  CHECK(all[0].status == static_cast<std::uint32_t>(Code::io_error));
  CHECK(all[1].tag == 2);
  CHECK(all[1].status == static_cast<std::uint32_t>(Code::cancelled));
  CHECK(all[2].tag == 3);
  CHECK(all[2].status == static_cast<std::uint32_t>(Code::cancelled));
  CHECK(*f.core.failure(t, 1) == "the disk is gone");
  CHECK(*f.core.failure(t, 3) == "task 2, on which it depends, failed");
  CHECK(f.running_tags() == Tags{4});
}

TEST_CASE("A task that depends on one that failed before is cancelled at once") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  f.fail(1, Code::internal, "no");
  (void)f.completions(t);
  f.submit(t, {task(2, {1})});
  CHECK(f.status(t) == Code::cancelled);
}

TEST_CASE("A task cancelled by one dependency outlives the others without harm") {
  Fixture f(2);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2), task(3, {1, 2}), task(4, {3})});
  f.fail(1, Code::internal, "no");
  CHECK(f.completions(t).size() == 3);
  f.submit(t, {task(3, {2})});  // its tag is free again
  f.ok(2);
  CHECK(f.running_tags() == Tags{3});
  f.ok(3);
  CHECK(f.completions(t).size() == 2);
}

TEST_CASE("A dependency on a tag that is not known is invalid_argument") {
  Fixture f;
  const TenantId t = f.tenant();
  const Result<void> r = f.core.submit(t, std::vector{task(1), task(2, {7})}, 1);
  REQUIRE(!r);
  CHECK(r.error().code() == Code::invalid_argument);
  CHECK(r.error().message() == "task 2: it depends on task 7, which is not known");
}

TEST_CASE("A dependency on a later record or on itself is invalid_argument") {
  Fixture f;
  const TenantId t = f.tenant();
  CHECK(f.core.submit(t, std::vector{task(1, {2}), task(2)}, 1).error().code() ==
        Code::invalid_argument);
  CHECK(f.core.submit(t, std::vector{task(1, {1})}, 1).error().code() == Code::invalid_argument);
}

TEST_CASE("A batch is taken as a whole or not at all") {
  Fixture f(4);
  const TenantId t = f.tenant();
  CHECK(!f.core.submit(t, std::vector{task(1), task(2, {9})}, 1));
  f.run();
  CHECK(f.started.empty());
  f.submit(t, {task(1)});
  CHECK(f.running_tags() == Tags{1});
}

TEST_CASE("Tags of different tenants have nothing to do with each other") {
  Fixture f(4);
  const TenantId a = f.tenant(1);
  const TenantId b = f.tenant(1);
  f.submit(a, {task(1)});
  CHECK(f.core.submit(b, std::vector{task(2, {1})}, 1).error().code() == Code::invalid_argument);
  CHECK(f.core.submit(b, std::vector{task(1)}, 1));
}

TEST_CASE("A tag is taken while a task with the same low 32 bits is unfinished") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  CHECK(f.core.submit(t, std::vector{task(1)}, 1).error().code() == Code::already_exists);
  CHECK(f.core.submit(t, std::vector{task(1 | 5ull << 32)}, 1).error().code() ==
        Code::already_exists);
  CHECK(f.core.submit(t, std::vector{task(2), task(2)}, 1).error().code() == Code::already_exists);
  f.ok(1);
  f.submit(t, {task(1)});
  CHECK(f.running_tags() == Tags{1});
}

TaskRecord join(std::uint64_t tag, std::initializer_list<std::uint32_t> dependencies) {
  TaskRecord record = task(tag, dependencies);
  record.flags = proto::scheduler::task_flag::join;
  return record;
}

TEST_CASE("A join is done when those are on which it depends, and takes no slot") {
  Fixture f(3);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2), join(3, {1, 2}), task(4, {3}), join(5, {3, 4}), task(6)});
  f.ok(1);
  CHECK(f.running_tags() == Tags{2, 6});
  f.ok(2);
  CHECK(f.running_tags() == Tags{4, 6});
  f.ok(4);
  f.ok(6);
  CHECK(f.completions(t).size() == 6);
  CHECK(f.core.idle());
}

TEST_CASE("A join of nothing, or of finished tasks, is done at once") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {join(1, {}), join(2, {1}), task(3, {2})});
  CHECK(f.running_tags() == Tags{3});
  f.ok(3);
  f.submit(t, {join(4, {3})});
  CHECK(f.completions(t).size() == 4);
}

TEST_CASE("A join of a task that failed fails") {
  Fixture f;
  const TenantId t = f.tenant();
  f.submit(t, {task(1), join(2, {1}), task(3, {2})});
  f.fail(1, Code::invalid_argument, "no");
  const auto all = f.completions(t);
  REQUIRE(all.size() == 3);
  CHECK(static_cast<Code>(all[1].status) == Code::cancelled);
  CHECK(static_cast<Code>(all[2].status) == Code::cancelled);
}

TEST_CASE("A deadline that has passed is refused, saying by how much") {
  Fixture f;
  const TenantId t = f.tenant();
  TaskRecord late = task(1);
  late.deadline_ns = 5'000'000;
  const auto refused = f.core.submit(t, std::vector{late}, 12'000'000);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == Code::invalid_argument);
  CHECK(refused.error().message() ==
        "task 1: its deadline passed 7 ms before it was submitted; deadlines are times of the "
        "monotonic clock");
  late.deadline_ns = 12'000'001;
  CHECK(f.core.submit(t, std::vector{late}, 12'000'000));
}

}  // namespace aios::scheduler
