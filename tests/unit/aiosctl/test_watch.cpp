#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "abi/runtime/time.hpp"
#include "tools/aiosctl/watch/frame.hpp"
#include "tools/aiosctl/watch/open_metrics.hpp"

using namespace aios;
using namespace aios::ctl;

namespace {

JobUse job(std::uint64_t id, std::uint64_t parent, const std::string& name,
           std::uint64_t cpu_ns = 0, std::uint64_t memory_bytes = 0) {
  JobUse use{};
  use.record.job_id = id;
  use.record.parent_id = parent;
  use.record.name = proto::kernel::Name::from(name);
  use.path = name;
  use.processes = {cpu_ns, memory_bytes};
  return use;
}

JobUse& with_tasks(JobUse& use, std::uint64_t done, std::uint32_t waiting) {
  use.load.job_id = use.record.job_id;
  use.load.tasks_done = done;
  use.load.waiting = waiting;
  return use;
}

/// The root, the servers' job, and a user with two programs of which one has contexts.
Snapshot some(std::uint64_t at_ns) {
  Snapshot out;
  out.at_ns = at_ns;
  out.jobs = {job(1, 0, "root"),
              job(2, 1, "system"),
              job(3, 2, "storage", 5),
              job(10, 1, "user:7"),
              job(11, 10, "first"),
              job(12, 10, "second"),
              job(13, 12, std::string(proto::kernel::contexts_job))};
  return out;
}

}  // namespace

TEST_CASE("What a job uses is also of those above it") {
  Snapshot snapshot = some(0);
  snapshot.jobs[4].processes = {100, 1000};
  with_tasks(snapshot.jobs[4], 3, 4);
  snapshot.jobs[6].processes = {20, 200};
  add_to_jobs_above(snapshot.jobs);
  CHECK(snapshot.jobs[0].processes.cpu_ns == 125);
  CHECK(snapshot.jobs[3].processes.cpu_ns == 120);
  CHECK(snapshot.jobs[3].processes.memory_bytes == 1200);
  CHECK(snapshot.jobs[5].processes.cpu_ns == 20);
  CHECK(snapshot.jobs[3].load.tasks_done == 3);
  CHECK(snapshot.jobs[0].load.waiting == 4);
  CHECK(snapshot.jobs[1].load.job_id == 0);
}

TEST_CASE("What a control group has counted goes before what processes say that live") {
  Snapshot snapshot = some(0);
  snapshot.jobs[5].record.cpu_ns = 70;
  snapshot.jobs[5].record.own_memory_bytes = 7;
  snapshot.jobs[6].processes = {20, 200};
  add_to_jobs_above(snapshot.jobs);
  CHECK(snapshot.jobs[5].processes.cpu_ns == 70);
  CHECK(snapshot.jobs[5].processes.memory_bytes == 7);
  CHECK(snapshot.jobs[3].processes.cpu_ns == 70);
}

TEST_CASE("Rates are of the time between two looks") {
  Snapshot before = some(ns_per_s);
  Snapshot now = some(3 * ns_per_s);
  before.devices.resize(1);
  now.devices.resize(1);
  before.devices[0].device.kind = decltype(now.devices[0].device.kind)::from("cpu");
  now.devices[0].device.kind = before.devices[0].device.kind;
  before.devices[0].tasks_done = 10;
  now.devices[0].tasks_done = 29;
  now.devices[0].tasks_failed = 1;
  now.devices[0].busy_ns = 3 * ns_per_s;
  before.jobs[4].processes.cpu_ns = ns_per_s;
  now.jobs[4].processes.cpu_ns = 2 * ns_per_s;
  with_tasks(before.jobs[4], 5, 0);
  with_tasks(now.jobs[4], 15, 2);
  add_to_jobs_above(before.jobs);
  add_to_jobs_above(now.jobs);
  const Frame frame = make_frame(before, now, SortBy::cpu);
  CHECK(frame.seconds == doctest::Approx(2));
  REQUIRE(frame.devices.size() == 1);
  CHECK(frame.devices[0].name == "cpu0");
  CHECK(frame.devices[0].rates.tasks_per_s == doctest::Approx(10));
  CHECK(frame.devices[0].rates.busy_threads == doctest::Approx(1.5));
  CHECK(frame.waiting == 2);
  REQUIRE(frame.jobs.size() == 4);
  // Who uses most comes first, a user's jobs behind him; nobody asked for those of servers and of
  // contexts.
  CHECK(frame.jobs[0].use.path == "user:7");
  CHECK(frame.jobs[0].cores == doctest::Approx(0.5));
  CHECK(frame.jobs[1].use.path == "first");
  CHECK(frame.jobs[1].rates.tasks_per_s == doctest::Approx(5));
  CHECK(frame.jobs[2].use.path == "second");
  CHECK(frame.jobs[3].use.path == "system");
}

TEST_CASE("Counters that begin anew count from nothing, and times that shrink are none") {
  Snapshot before = some(ns_per_s);
  Snapshot now = some(2 * ns_per_s);
  with_tasks(before.jobs[4], 500, 0);
  with_tasks(now.jobs[4], 4, 0);
  before.jobs[4].processes.cpu_ns = 100;
  add_to_jobs_above(before.jobs);
  add_to_jobs_above(now.jobs);
  const Frame frame = make_frame(before, now, SortBy::tasks);
  CHECK(frame.jobs[1].rates.tasks_per_s == doctest::Approx(4));
  CHECK(frame.jobs[1].cores == 0);
}

TEST_CASE("One look alone has no rates, and an instance of another user only his jobs") {
  Snapshot now = some(ns_per_s);
  now.jobs.erase(now.jobs.begin(), now.jobs.begin() + 3);
  const Frame frame = make_frame(now, now, SortBy::memory);
  CHECK(frame.rates.tasks_per_s == 0);
  REQUIRE(frame.jobs.size() == 3);
  CHECK(frame.jobs[0].use.path == "user:7");
  CHECK(make_frame({}, {}, SortBy::cpu).jobs.empty());
}

TEST_CASE("A frame fits the screen, and says that it was cut") {
  CHECK(fitted("one\ntwo\n", 2, 10) == "one\ntwo\n");
  CHECK(fitted("one\ntwo\nthree\n", 2, 30) == "one\n... and 2 lines more\n");
  CHECK(fitted("abcdef\n", 5, 3) == "abc\n");
  // Columns are characters.
  CHECK(fitted("\xC3\xA4\xC3\xB6x\n", 5, 2) == "\xC3\xA4\xC3\xB6\n");
}

TEST_CASE("The time of a process is read behind its name, whatever that is") {
  const std::string fields = " S 1 2 3 4 5 6 7 8 9 10 100 20 3 1 20 0 1 0 99";
  CHECK(cpu_ns_in("17 (a) b (c))" + fields, 100) == 1'240'000'000);
  CHECK(cpu_ns_in("", 100) == 0);
  CHECK(cpu_ns_in("17 (x) S 1 2", 100) == 0);
}

TEST_CASE("Metrics end with their mark, and no name breaks out of its label") {
  Snapshot snapshot = some(ns_per_s);
  snapshot.jobs[4].path = "a\"b\\c\nd\xC3\xA4";
  snapshot.silent = {"scheduler: it \"hangs\""};
  const std::string text = to_open_metrics(snapshot);
  CHECK(text.ends_with("\n# EOF\n"));
  CHECK(text.find("{job=\"a\\\"b\\\\c?d??\",id=\"11\"}") != std::string::npos);
  CHECK(text.find("aios_silent{server=\"scheduler\"} 1\n") != std::string::npos);
  CHECK(text.find("aios_silent{server=\"storage\"} 0\n") != std::string::npos);
  CHECK(text.find("aios_storage") == std::string::npos);
  CHECK(text.find("aios_device") == std::string::npos);
  CHECK(text.find(":contexts") == std::string::npos);
}
