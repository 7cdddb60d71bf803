// Tasks that are known to be brief go to a context many at once.
#include "services/scheduler/core/parts/limits.hpp"
#include "tests/unit/scheduler/fixture.hpp"

using namespace aios::scheduler;

namespace {

constexpr std::uint64_t brief_ns = 5000;

/// Runs as many tasks of the tenant as it takes to know; the next tag is free.
std::uint64_t teach(Fixture& f, TenantId tenant, std::uint64_t duration_ns) {
  std::uint64_t tag = 1;
  for (; tag <= Brevity::least_samples; ++tag) {
    f.submit(tenant, {task(tag)});
    f.ok(tag, duration_ns);
  }
  return tag;
}

std::vector<TaskRecord> many(std::uint64_t first, std::uint64_t count) {
  std::vector<TaskRecord> records;
  for (std::uint64_t i = 0; i < count; ++i) records.push_back(task(first + i));
  return records;
}

}  // namespace

TEST_CASE("Brief tasks are given to the context beyond its slots, up to a limit of time") {
  Fixture f(2);
  const TenantId t = f.tenant();
  const std::uint64_t first = teach(f, t, brief_ns);
  f.submit(t, many(first, 1000));
  CHECK(f.running.size() == 2 * max_ahead_ns_per_slot / brief_ns);
  for (const auto& [tag, ref] : f.running) REQUIRE(f.core.find(ref)->brief);
  f.ok(first, brief_ns);
  CHECK(f.running.size() == 2 * max_ahead_ns_per_slot / brief_ns);
}

TEST_CASE("Tasks that take longer, must not run twice or have a limit wait for a slot") {
  Fixture f(1);
  const TenantId t = f.tenant();
  std::uint64_t next = teach(f, t, brief_ns);
  std::vector<TaskRecord> records = many(next, 2);
  for (TaskRecord& record : records) record.flags = 0;
  f.submit(t, records);
  CHECK(f.running.size() == 1);
  f.ok(next, brief_ns);
  f.ok(next + 1, brief_ns);
  records = many(next += 2, 2);
  for (TaskRecord& record : records) record.limit_ns = 1'000'000;
  f.submit(t, records);
  CHECK(f.running.size() == 1);
  f.ok(next, 10 * brief_ns);
  // One that took long is remembered for long.
  f.ok(next + 1, 100'000'000);
  f.submit(t, many(next += 2, 2));
  CHECK(f.running.size() == 1);
}

TEST_CASE("What is brief leaves slots to others, and they leave it room") {
  Fixture f(1);
  const TenantId brief = f.tenant();
  const TenantId other = f.tenant(2, 1001);
  const std::uint64_t first = teach(f, brief, brief_ns);
  f.submit(brief, many(first, 500));
  const std::size_t ahead = f.running.size();
  CHECK(ahead > 100);
  f.submit(other, {task(9001), task(9002)});
  CHECK(f.running.size() == ahead + 1);
  CHECK(f.core.devices()[0].running == 1);
  for (std::uint64_t tag = first; tag < first + 500; ++tag) {
    REQUIRE(f.running.contains(tag));
    f.ok(tag, brief_ns);
  }
  CHECK(f.running_tags() == Tags{9001});
  CHECK(f.core.devices()[0].ahead == 0);
  CHECK(f.core.devices()[0].ahead_ns == 0);
}

TEST_CASE("Brief tasks whose context ends are run again one at a time") {
  Fixture f(2);
  const TenantId t = f.tenant();
  const std::uint64_t first = teach(f, t, brief_ns);
  f.submit(t, many(first, 20));
  CHECK(f.running.size() == 20);
  f.end_context(How::fault);
  for (std::uint64_t i = 0; i < 20; ++i) {
    REQUIRE(f.running.size() == 1);
    f.ok(f.running.begin()->first, brief_ns);
  }
  CHECK(f.completions(t).size() == Brevity::least_samples + 20);
}
