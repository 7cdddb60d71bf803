// What comes after a task has a say in where it runs, where devices have memories of their own.
#include "services/scheduler/core/parts/onward.hpp"

#include "tests/unit/scheduler/told_core.hpp"

namespace aios::scheduler {
namespace {

constexpr std::uint64_t ms = 1'000'000;
constexpr DeviceId slow = 0, fast = 1, other = 2;
constexpr MemoryId fast_memory = 1;

/// Two slow slots, and a fast and another device of one slot each; only the fast one has a memory
/// of its own, 1 ms a megabyte away.
class Site : public ToldCore {
 public:
  explicit Site(std::string_view policy) : ToldCore(*make_policy(policy)) {
    add_device(slow, 2);
    add_device(fast, 1);
    add_device(other, 1);
    core.set_memory(fast, fast_memory);
    core.set_transfer(host_memory, fast_memory, {0, 1});
    core.set_transfer(fast_memory, host_memory, {0, 1});
    core.all_devices_known();
    tenant = *core.open_tenant(1, "job", 1000);
  }
  std::uint32_t codelet(const std::string& name, std::uint64_t slow_ms, std::uint64_t fast_ms) {
    tell(name, slow, slow_ms * ms);
    tell(name, fast, fast_ms * ms);
    tell(name, other, 10'000 * ms);
    return *core.add_codelet(tenant, proto::Text<64>::from(name));
  }
  std::uint32_t buffer(std::uint64_t megabytes) {
    return *core.add_buffer(tenant, true, megabytes * 1'000'000);
  }
  void submit(const std::vector<TaskRecord>& records) {
    REQUIRE(core.submit(tenant, records, now));
    run();
  }

  TenantId tenant;
};

TaskRecord of(std::uint32_t codelet, TaskRecord record) {
  record.codelet = codelet;
  return record;
}

TaskRecord with(TaskRecord record, std::uint32_t buffer, std::uint32_t mode) {
  record.buffers[record.buffer_count++] = buffer | mode << 28;
  return record;
}

/// Each reads what the one before it wrote; the first what the host has.
std::vector<TaskRecord> chain(Site& site, std::uint32_t codelet) {
  const std::uint32_t data = site.buffer(85);
  std::vector<TaskRecord> tasks;
  for (std::uint32_t i = 0; i < 5; ++i) {
    const TaskRecord record = i == 0 ? task(11) : task(11 + i, {10 + i});
    tasks.push_back(with(of(codelet, record), data, AIOS_MODE_READ_WRITE));
  }
  return tasks;
}

}  // namespace

TEST_CASE("The way on is told by where the data is left") {
  // 0 -> 1 -> 2; 1 takes 100 in memory 0 and 25 in memory 1, 2 takes 10 in either.
  Onward onward;
  onward.begin(2, 2);
  onward.runs_in(2, 0, 10);
  onward.runs_in(2, 1, 10);
  CHECK(onward.after_ns(2, 0) == 0);
  onward.begin(1, 2);
  onward.follow(1, 2, 50, false);
  onward.runs_in(1, 0, 100);
  onward.runs_in(1, 1, 25);
  CHECK(onward.after_ns(1, 0) == 10);
  SUBCASE("near enough to be moved") {
    onward.begin(0, 2);
    onward.follow(0, 1, 60, false);
    CHECK(onward.after_ns(0, 0) == 60 + 35);
    CHECK(onward.after_ns(0, 1) == 35);
  }
  SUBCASE("too far") {
    onward.begin(0, 2);
    onward.follow(0, 1, 80, false);
    CHECK(onward.after_ns(0, 0) == 110);
    CHECK(onward.after_ns(0, 1) == 35);
  }
  SUBCASE("the host has a copy of everything") {
    onward.begin(0, 2);
    onward.begin(1, 2);
    onward.follow(1, 2, 50, true);
    onward.runs_in(1, 0, 20);
    onward.follow(0, 1, 1000, true);
    CHECK(onward.after_ns(0, 1) == 30);
    CHECK(onward.after_ns(0, 0) == 30);
  }
  SUBCASE("the last of several counts, and a join takes no time anywhere") {
    onward.begin(3, 2);
    onward.follow(3, 1, 0, false);
    onward.follow(3, 2, 0, false);
    onward.runs_nowhere(3);
    onward.begin(0, 2);
    onward.follow(0, 3, 60, false);
    CHECK(onward.after_ns(0, 0) == 35);
  }
  // More memories: all anew, and what was not told is nothing.
  onward.begin(0, 3);
  CHECK(onward.after_ns(0, 2) == 0);
  CHECK(onward.after_ns(1, 1) == 0);
  CHECK(onward.after_ns(9, 0) == 0);
}

TEST_CASE("A chain is begun where it will be done soonest, not its first task") {
  for (const bool onward : {false, true}) {
    Site site(onward ? "learned" : "heft");
    site.submit(chain(site, site.codelet("work", 100, 25)));
    CHECK(site.on.at(11) == (onward ? fast : slow));
  }
}

TEST_CASE("What comes after counts for less the more tasks want the devices") {
  Site site("learned");
  const std::uint32_t work = site.codelet("work", 100, 25);
  std::vector<TaskRecord> tasks = chain(site, work);
  for (std::uint32_t i = 0; i < 20; ++i) {
    tasks.push_back(of(work, task(100 + i)));
    tasks.back().device = other + 1;
  }
  site.submit(tasks);
  CHECK(site.on.at(11) == slow);
}

TEST_CASE("No task goes where the next one would have to fetch what lies elsewhere") {
  for (const bool onward : {false, true}) {
    Site site(onward ? "learned" : "heft");
    const std::uint32_t first = site.codelet("first", 100, 80), next = site.codelet("next", 10, 1);
    const std::uint32_t result = site.buffer(60), table = site.buffer(5000);
    site.submit(
        {with(of(first, task(11)), result, AIOS_MODE_WRITE),
         with(with(of(next, task(12, {11})), result, AIOS_MODE_READ), table, AIOS_MODE_READ)});
    CHECK(site.on.at(11) == (onward ? slow : fast));
    site.end(11, 100 * ms);
    CHECK(site.on.at(12) == slow);
  }
}

TEST_CASE("Who waits behind another finds there what that one brings") {
  Site site("heft");
  const std::uint32_t work = site.codelet("work", 1000, 10), table = site.buffer(300);
  std::vector<TaskRecord> tasks{of(work, task(1))};
  tasks.back().device = fast + 1;
  site.submit(tasks);
  REQUIRE(site.on.at(1) == fast);
  // Each alone would be done there after 310 ms, the fourth of them after 1240.
  tasks.clear();
  for (std::uint32_t i = 0; i < 8; ++i)
    tasks.push_back(with(of(work, task(11 + i)), table, AIOS_MODE_READ));
  site.submit(tasks);
  CHECK(site.running.size() == 1);
  site.end(1);
  REQUIRE(site.on.at(11) == fast);
  CHECK(site.running.size() == 1);
}

}  // namespace aios::scheduler
