#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "abi/runtime/time.hpp"
#include "tools/aiosctl/watch/frame.hpp"
#include "tools/aiosctl/watch/open_metrics.hpp"

using namespace aios;
using namespace aios::ctl;

namespace {

SeenJob job(std::uint64_t id, std::uint64_t parent, const std::string& name) {
  SeenJob seen{};
  seen.record.job_id = id;
  seen.record.parent_id = parent;
  seen.record.name = proto::kernel::Name::from(name);
  seen.path = name;
  return seen;
}

enum At : std::size_t { root, servers, storage, user, first, second, contexts };

/// The root, the servers' job, and a user with two programs of which one has contexts; at so many
/// seconds, with the processes that are added.
Snapshot some(std::uint64_t seconds) {
  Snapshot out;
  out.at_ns = seconds * ns_per_s;
  out.boot_ns = 1000 * ns_per_s + out.at_ns;
  out.jobs = {job(1, 0, "root"),
              job(2, 1, "system"),
              job(3, 2, "storage"),
              job(10, 1, "user:7"),
              job(11, 10, "first"),
              job(12, 10, "second"),
              job(13, 12, std::string(proto::kernel::contexts_job))};
  out.knows_tasks = out.knows_processes = true;
  return out;
}

void add_process(Snapshot& snapshot, pid_t pid, At of, std::uint64_t cpu_ns,
                 std::uint64_t memory_bytes = 0, std::uint64_t started_ns = 0) {
  snapshot.processes.push_back(
      {pid, snapshot.jobs[of].record.job_id, {started_ns, cpu_ns, memory_bytes, memory_bytes}});
}

void set_load(Snapshot& snapshot, At of, std::uint64_t done, std::uint32_t waiting = 0) {
  auto& load = snapshot.jobs[of].load;
  load.job_id = snapshot.jobs[of].record.job_id;
  load.tasks_done = done;
  load.waiting = waiting;
}

}  // namespace

TEST_CASE("What a job uses is also of those above it") {
  Snapshot snapshot = some(0);
  add_process(snapshot, 5, storage, 5);
  add_process(snapshot, 6, first, 100, 1000);
  add_process(snapshot, 7, contexts, 20, 200);
  set_load(snapshot, first, 3, 4);
  const auto sums = sums_of(snapshot);
  CHECK(sums[root].cpu_ns == 125);
  CHECK(sums[user].cpu_ns == 120);
  CHECK(sums[user].memory_bytes == 1200);
  CHECK(sums[second].cpu_ns == 20);
  CHECK(sums[user].tasks_done == 3);
  CHECK(sums[root].waiting == 4);
  CHECK(!sums[servers].has_tasks);
}

TEST_CASE("What a control group has counted goes before what processes say that live") {
  Snapshot before = some(0);
  Snapshot now = some(2);
  for (Snapshot* one : {&before, &now}) add_process(*one, 7, contexts, 20, 200);
  before.jobs[second].record.cpu_ns = ns_per_s;
  now.jobs[second].record.cpu_ns = 2 * ns_per_s;
  now.jobs[second].record.own_memory_bytes = 7;
  const auto sums = sums_of(now);
  CHECK(sums[second].cpu_ns == 2 * ns_per_s);
  CHECK(sums[second].memory_bytes == 7);
  CHECK(sums[user].cpu_ns == 2 * ns_per_s);
  CHECK(rates_of(before, now)[user].cores == doctest::Approx(0.5));
}

TEST_CASE("Rates are of the time between two looks, for each process and job alone") {
  Snapshot before = some(1);
  Snapshot now = some(3);
  add_process(before, 6, first, ns_per_s);
  add_process(now, 6, first, 2 * ns_per_s);
  set_load(before, first, 5);
  set_load(now, first, 15, 2);
  const auto rates = rates_of(before, now);
  CHECK(rates[first].cores == doctest::Approx(0.5));
  CHECK(rates[user].cores == doctest::Approx(0.5));
  CHECK(rates[root].tasks.tasks_per_s == doctest::Approx(5));
  CHECK(rates[second].cores == 0);
}

TEST_CASE("A job that ends is no work of its user's") {
  Snapshot before = some(1);
  Snapshot now = some(2);
  set_load(before, first, 1'000'000);
  set_load(before, second, 14);
  set_load(now, second, 16);
  add_process(before, 6, first, 50 * ns_per_s);
  now.jobs.erase(now.jobs.begin() + first);
  const auto rates = rates_of(before, now);
  CHECK(rates[user].tasks.tasks_per_s == doctest::Approx(2));
  CHECK(rates[user].cores == 0);
}

TEST_CASE("What a process had before it was first seen is not of now, unless it is new") {
  Snapshot before = some(1);
  Snapshot now = some(2);
  add_process(now, 6, first, 50 * ns_per_s, 0, 3 * ns_per_s);
  add_process(now, 7, second, ns_per_s / 2, 0, before.boot_ns + 1);
  const auto rates = rates_of(before, now);
  CHECK(rates[first].cores == 0);
  CHECK(rates[second].cores == doctest::Approx(0.5));
}

TEST_CASE("Another process with the same pid begins anew") {
  Snapshot before = some(1);
  Snapshot now = some(2);
  add_process(before, 6, first, 3 * ns_per_s, 0, 7);
  add_process(now, 6, first, ns_per_s / 4, 0, before.boot_ns + 5);
  CHECK(rates_of(before, now)[first].cores == doctest::Approx(0.25));
}

TEST_CASE("Counters of a scheduler that began anew count from nothing") {
  Snapshot before = some(1);
  Snapshot now = some(2);
  set_load(before, first, 500);
  set_load(now, first, 4);
  CHECK(rates_of(before, now)[first].tasks.tasks_per_s == doctest::Approx(4));
}

TEST_CASE("After a scheduler was silent its history is not of now") {
  Snapshot before = some(1);
  Snapshot now = some(2);
  before.knows_tasks = false;
  set_load(now, first, 500);
  now.devices.resize(1);
  now.devices[0].tasks_done = 500;
  CHECK(rates_of(before, now)[first].tasks.tasks_per_s == 0);
  CHECK(!device_rates_of(before, now));
  before.knows_tasks = true;
  REQUIRE(device_rates_of(before, now));
  CHECK(device_rates_of(before, now)->front().tasks_per_s == doctest::Approx(500));
}

TEST_CASE("Who uses most comes first, a user's jobs behind him") {
  Snapshot before = some(1);
  Snapshot now = some(3);
  add_process(before, 5, storage, 0);
  add_process(now, 5, storage, 1);
  add_process(before, 6, first, 0, 10);
  add_process(now, 6, first, ns_per_s, 10);
  add_process(now, 7, contexts, 0, 20);
  set_load(now, second, 6, 2);
  const auto paths = [&](SortBy sort) {
    std::string all;
    for (const JobRow& row : make_frame(before, now, sort).jobs)
      all += std::string(static_cast<std::size_t>(row.depth), '>') + row.job.path + " ";
    return all;
  };
  // Nobody asked for the jobs of servers and of contexts.
  CHECK(paths(SortBy::cpu) == "user:7 >first >second system ");
  CHECK(paths(SortBy::memory) == "user:7 >second >first system ");
  CHECK(paths(SortBy::tasks) == "user:7 >second >first system ");
  CHECK(make_frame(before, now, SortBy::cpu).waiting == 2);
}

TEST_CASE("What is not known is neither 0 nor nothing") {
  Snapshot now = some(1);
  now.devices.resize(1);
  const Frame once = make_frame(now, now, SortBy::cpu);
  CHECK(!once.device_rates);
  CHECK(to_json(once)["devices"][0]["tasks_per_s"].is_null());
  CHECK(to_json(once)["tasks_running"] == 0);
  now.knows_tasks = now.knows_processes = false;
  now.devices.clear();
  now.silent["scheduler"] = "it hangs";
  const Frame frame = make_frame(now, now, SortBy::cpu);
  CHECK(to_json(frame)["tasks_running"].is_null());
  CHECK(to_json(frame)["jobs"][0]["memory_bytes"].is_null());
  const std::string text = to_text(frame, "s");
  CHECK(text.find("tasks: - running, - waiting") != std::string::npos);
  CHECK(text.find("no answer from scheduler: it hangs") != std::string::npos);
  CHECK(to_open_metrics(now).find("aios_job_cpu_seconds") == std::string::npos);
}

TEST_CASE("Others than operators see their own jobs, and an empty instance has none") {
  Snapshot now = some(1);
  now.jobs.erase(now.jobs.begin(), now.jobs.begin() + user);
  const Frame frame = make_frame(now, now, SortBy::memory);
  REQUIRE(frame.jobs.size() == 3);
  CHECK(frame.jobs[0].job.path == "user:7");
  CHECK(make_frame({}, {}, SortBy::cpu).jobs.empty());
}

TEST_CASE("A frame fits the screen, and says that it was cut") {
  CHECK(fitted("one\ntwo\n", 2, 10) == "one\ntwo\n");
  CHECK(fitted("one\ntwo\nthree\n", 2, 30) == "one\n... and 2 lines more\n");
  CHECK(fitted("abcdef\n", 5, 3) == "abc\n");
  // Columns are characters.
  CHECK(fitted("\xC3\xA4\xC3\xB6x\n", 5, 2) == "\xC3\xA4\xC3\xB6\n");
}

TEST_CASE("The times of a process are read behind its name, whatever that is") {
  const std::string fields = " S 1 2 3 4 5 6 7 8 9 10 100 20 3 1 20 0 1 0 99 5 6";
  CHECK(times_in("17 (a) b (c))" + fields, 100).cpu_ns == 1'200'000'000);
  CHECK(times_in("17 (a) b (c))" + fields, 100).started_ns == 990'000'000);
  CHECK(times_in("", 100).cpu_ns == 0);
  CHECK(times_in("17 (x) S 1 2", 100).cpu_ns == 0);
}

TEST_CASE("Metrics end with their mark, and no name breaks out of its label") {
  Snapshot snapshot = some(1);
  snapshot.jobs[first].path = "a\"b\\c\nd\xC3\xA4";
  snapshot.silent["scheduler"] = "it \"hangs\"";
  const std::string text = to_open_metrics(snapshot);
  CHECK(text.ends_with("\n# EOF\n"));
  CHECK(text.find("{job=\"a\\\"b\\\\c?d??\",id=\"11\"}") != std::string::npos);
  CHECK(text.find("aios_silent{server=\"scheduler\"} 1\n") != std::string::npos);
  CHECK(text.find("aios_silent{server=\"storage\"} 0\n") != std::string::npos);
  // Of what nothing is known nothing is said.
  CHECK(text.find("aios_storage") == std::string::npos);
  CHECK(text.find("aios_device") == std::string::npos);
  CHECK(text.find("aios_job_tasks") == std::string::npos);
  CHECK(text.find(":contexts") == std::string::npos);
}
