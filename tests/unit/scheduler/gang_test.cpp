// Gangs: tasks that start together or not at all.
#include <functional>

#include "services/scheduler/core/parts/gang_fit.hpp"
#include "services/scheduler/core/parts/limits.hpp"
#include "tests/unit/scheduler/told_core.hpp"

namespace aios::scheduler {
namespace {

constexpr std::uint64_t ms = 1'000'000;

TaskRecord member(std::uint64_t tag, std::uint32_t gang, std::uint32_t size,
                  std::initializer_list<std::uint32_t> dependencies = {},
                  std::int32_t priority = 0) {
  TaskRecord record = task(tag, dependencies, priority);
  record.flags |= proto::scheduler::task_flag::gang;
  record.gang = gang;
  record.gang_size = size;
  return record;
}

std::map<std::uint64_t, Code> statuses(Fixture& f, TenantId t) {
  std::map<std::uint64_t, Code> all;
  for (const auto& c : f.completions(t)) all[c.tag] = static_cast<Code>(c.status);
  return all;
}

/// A core that looks ahead, in time. Two devices of the same kind; the codelet `work` takes 10 ms.
class Site : public ToldCore {
 public:
  explicit Site(const std::vector<std::uint32_t>& slots) : ToldCore(*make_policy("learned")) {
    for (DeviceId d = 0; d < slots.size(); ++d) {
      add_device(d, slots[d]);
      tell("work", d, 10 * ms);
      tell("short", d, ms);
      tell("long", d, 100 * ms);
    }
    core.all_devices_known();
  }

  TenantId open(JobId job, std::uint32_t user = 1000) {
    const TenantId id = *core.open_tenant(job, "job", user);
    REQUIRE(core.add_codelet(id, proto::Text<64>::from("work")));
    REQUIRE(core.add_codelet(id, proto::Text<64>::from("short")));
    REQUIRE(core.add_codelet(id, proto::Text<64>::from("long")));
    return id;
  }
  void submit(TenantId of, const std::vector<TaskRecord>& records) {
    REQUIRE(core.submit(of, records, now));
    run();
  }
  void wait(std::uint64_t ns) {
    now += ns;
    run();
  }
};

TaskRecord of(std::uint32_t codelet, TaskRecord record) {
  record.codelet = codelet;
  return record;
}

using Choices = std::vector<std::vector<DeviceId>>;

}  // namespace

TEST_CASE("Members go to the devices that they prefer, and make way where others need them") {
  CHECK(fit_gang(Choices{{0, 1}, {0, 1}}, {1, 1}) == std::vector<DeviceId>{0, 1});
  CHECK(fit_gang(Choices{{0, 1}, {0}}, {1, 1}) == std::vector<DeviceId>{1, 0});
  CHECK(fit_gang(Choices{{0, 1}, {1, 2}, {0}, {1}}, {1, 3, 0}).has_value());
  CHECK(!fit_gang(Choices{{0}, {0}, {1}}, {1, 5}));
  CHECK(!fit_gang(Choices{{}}, {3}));
  CHECK(fit_gang(Choices{}, {}) == std::vector<DeviceId>{});
}

TEST_CASE("Each member finds a place whenever there is a way to give all of them one") {
  // Against trying everything.
  std::uint64_t state = 7;
  const auto below = [&](std::uint64_t n) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 33) % n;
  };
  for (int round = 0; round < 2000; ++round) {
    Choices choices(1 + below(5));
    for (auto& of : choices)
      for (DeviceId d = 0; d < 3; ++d)
        if (below(2) == 0) of.push_back(d);
    std::vector<std::uint32_t> room{static_cast<std::uint32_t>(below(3)),
                                    static_cast<std::uint32_t>(below(3)),
                                    static_cast<std::uint32_t>(below(3))};
    const std::function<bool(std::size_t)> possible = [&](std::size_t i) {
      if (i == choices.size()) return true;
      for (const DeviceId d : choices[i]) {
        if (room[d] == 0) continue;
        --room[d];
        const bool fits = possible(i + 1);
        ++room[d];
        if (fits) return true;
      }
      return false;
    };
    const auto found = fit_gang(choices, room);
    REQUIRE(found.has_value() == possible(0));
    if (!found) continue;
    for (std::size_t i = 0; i < choices.size(); ++i) {
      REQUIRE(std::ranges::find(choices[i], (*found)[i]) != choices[i].end());
      REQUIRE(std::ranges::count(*found, (*found)[i]) <= room[(*found)[i]]);
    }
  }
}

TEST_CASE("A gang starts when all of it has come and could start, and not before") {
  Fixture f(3);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), member(2, 7, 3), member(3, 7, 3, {1})});
  CHECK(f.running_tags() == Tags{1});
  f.ok(1);
  CHECK(f.running.empty());
  f.submit(t, {member(4, 7, 3)});
  CHECK(f.running_tags() == Tags{2, 3, 4});
  for (const std::uint64_t tag : {2, 3, 4}) f.ok(tag);
  CHECK(f.completions(t).size() == 4);
  // Its number serves another.
  f.submit(t, {member(5, 7, 2), member(6, 7, 2)});
  CHECK(f.running_tags() == Tags{5, 6});
}

TEST_CASE("Members that joins wait for are counted once") {
  Fixture f(2);
  const TenantId t = f.tenant();
  TaskRecord join = task(2);
  join.flags = proto::scheduler::task_flag::join;
  f.submit(t, {task(1), join, member(3, 1, 2, {2}), member(4, 1, 2, {1})});
  CHECK(f.running_tags() == Tags{1});
  f.ok(1);
  CHECK(f.running_tags() == Tags{3, 4});
}

TEST_CASE("A gang waits for all its slots at once, and what is behind it does not take them") {
  Fixture f(2);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2)});
  f.submit(t, {member(11, 1, 2), member(12, 1, 2), task(3), task(4)});
  CHECK(f.running_tags() == Tags{1, 2});
  f.ok(1);
  CHECK(f.running_tags() == Tags{2});
  f.ok(2);
  CHECK(f.running_tags() == Tags{11, 12});
  f.ok(11);
  CHECK(f.running_tags() == Tags{3, 12});
}

TEST_CASE("Slots that come free are kept for a gang; of another user one task runs nevertheless") {
  Fixture f(3);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), task(2)});
  f.submit(t, {member(11, 1, 2), member(12, 1, 2), task(3), task(4)});
  CHECK(f.running_tags() == Tags{1, 2});
  f.ok(1);
  CHECK(f.running_tags() == Tags{2, 11, 12});
  Fixture g(2);
  const TenantId u = g.tenant();
  g.submit(u, {task(1)});
  g.submit(u, {member(11, 1, 2), member(12, 1, 2)});
  const TenantId other = g.tenant(2, 1001);
  g.submit(other, {task(901), task(902)});
  CHECK(g.running_tags() == Tags{1, 901});
}

TEST_CASE("Two gangs of two tenants never wait for one another") {
  Fixture f(3);
  const TenantId a = f.tenant();
  const TenantId b = f.tenant(2, 1001);
  f.submit(a, {task(1), task(2)});
  f.submit(b, {task(3)});
  f.submit(a, {member(11, 1, 2), member(12, 1, 2)});
  f.submit(b, {member(21, 1, 3), member(22, 1, 3), member(23, 1, 3)});
  CHECK(f.running_tags() == Tags{1, 2, 3});
  for (const std::uint64_t tag : {1, 3}) f.ok(tag);
  CHECK(f.running_tags() == Tags{2, 11, 12});
  for (const std::uint64_t tag : {2, 11}) f.ok(tag);
  CHECK(f.running_tags() == Tags{12});
  f.ok(12);
  CHECK(f.running_tags() == Tags{21, 22, 23});
}

TEST_CASE("Members of a gang are not brief: each has a slot") {
  Fixture f(2);
  const TenantId t = f.tenant();
  std::uint64_t tag = 1;
  for (; tag <= Brevity::least_samples; ++tag) {
    f.submit(t, {task(tag)});
    f.ok(tag, 5000);
  }
  f.submit(t, {member(101, 1, 2), member(102, 1, 2)});
  f.submit(t, {member(201, 2, 2), member(202, 2, 2)});
  CHECK(f.running_tags() == Tags{101, 102});
  CHECK(f.core.devices()[0].running == 2);
}

TEST_CASE("When one of a gang ends without success those that do not run are cancelled") {
  Fixture f(2);
  const TenantId t = f.tenant();
  f.submit(t, {task(1), member(2, 5, 2, {1}), member(3, 5, 2), task(4, {3})});
  f.fail(1, Code::io_error, "no");
  CHECK(statuses(f, t) ==
        std::map<std::uint64_t, Code>{
            {1, Code::io_error}, {2, Code::cancelled}, {3, Code::cancelled}, {4, Code::cancelled}});
  CHECK(f.core.failure(t, 3)->find("task 2 of its gang") != std::string::npos);
  // What comes of it later is cancelled too; running ones go on.
  f.submit(t, {member(11, 6, 3), member(12, 6, 3)});
  REQUIRE(f.core.cancel(t, 11));
  f.submit(t, {member(13, 6, 3)});
  CHECK(statuses(f, t) == std::map<std::uint64_t, Code>{
                              {11, Code::cancelled}, {12, Code::cancelled}, {13, Code::cancelled}});
  f.submit(t, {member(21, 7, 2), member(22, 7, 2)});
  f.fail(21, Code::io_error, "no");
  CHECK(f.running_tags() == Tags{22});
  f.ok(22);
  CHECK(statuses(f, t) == std::map<std::uint64_t, Code>{{21, Code::io_error}, {22, Code::ok}});
  CHECK(f.core.idle());
}

TEST_CASE("A member that depends on what has failed takes its gang with it, in whatever batch") {
  Fixture f(2);
  const TenantId t = f.tenant();
  f.submit(t, {task(1)});
  f.fail(1, Code::io_error, "no");
  f.submit(t, {member(2, 1, 3), member(3, 1, 3, {1}), member(4, 1, 3), task(5)});
  CHECK(f.running_tags() == Tags{5});
  f.ok(5);
  const auto ended = statuses(f, t);
  for (const std::uint64_t tag : {2, 3, 4}) CHECK(ended.at(tag) == Code::cancelled);
  CHECK(ended.at(5) == Code::ok);
  CHECK(f.core.idle());
}

TEST_CASE("A gang whose context ends starts together again, and alone; twice is too often") {
  Fixture f(3);
  const TenantId t = f.tenant();
  f.submit(t, {member(1, 1, 2), member(2, 1, 2), task(3)});
  CHECK(f.running_tags() == Tags{1, 2, 3});
  f.begin_all();
  f.end_context(How::fault);
  // One after the other: the gang, and the task that was beside it.
  CHECK((f.running_tags() == Tags{1, 2} || f.running_tags() == Tags{3}));
  if (f.running_tags() == Tags{3}) f.ok(3);
  CHECK(f.running_tags() == Tags{1, 2});
  f.ok(1);
  // Who is left starts without those that are done.
  f.end_context(How::killed);
  if (f.running.contains(3)) f.ok(3);
  CHECK(f.running_tags() == Tags{2});
  f.ok(2);
  if (f.running.contains(3)) f.ok(3);
  CHECK(statuses(f, t) ==
        std::map<std::uint64_t, Code>{{1, Code::ok}, {2, Code::ok}, {3, Code::ok}});

  f.submit(t, {member(11, 2, 2), member(12, 2, 2)});
  for (int i = 0; i < 2; ++i) {
    f.begin_all();
    f.end_context(How::fault);
  }
  CHECK(statuses(f, t) == std::map<std::uint64_t, Code>{{11, Code::crashed}, {12, Code::crashed}});
  CHECK(f.core.idle());
}

TEST_CASE("One of a gang that may not run again keeps the others from it") {
  Fixture f(2);
  const TenantId t = f.tenant();
  TaskRecord only_once = member(1, 1, 2);
  only_once.flags &= ~proto::scheduler::task_flag::idempotent;
  f.submit(t, {only_once, member(2, 1, 2)});
  f.begin_all();
  f.end_context(How::killed);
  CHECK(statuses(f, t) ==
        std::map<std::uint64_t, Code>{{1, Code::indeterminate}, {2, Code::cancelled}});
}

TEST_CASE("A gang that makes no sense is refused, saying why") {
  Site site({2, 1});
  const TenantId t = site.open(1);
  const auto refused = [&](const std::vector<TaskRecord>& records) {
    const auto done = site.core.submit(t, records, site.now);
    REQUIRE(!done);
    return done.error();
  };
  std::vector<TaskRecord> four;
  for (std::uint64_t tag = 1; tag <= 4; ++tag) four.push_back(member(tag, 1, 4));
  CHECK(refused(four).code() == Code::not_supported);
  CHECK(refused(four).message().find("4 members") != std::string::npos);
  CHECK(refused(four).message().find("3 slots") != std::string::npos);
  std::vector<TaskRecord> two = {member(1, 1, 2), member(2, 1, 2)};
  two[0].device = two[1].device = 2;
  CHECK(refused(two).code() == Code::not_supported);
  CHECK(refused({member(1, 1, 2), member(2, 1, 3)}).code() == Code::invalid_argument);
  CHECK(refused({member(1, 1, 2), member(2, 1, 2), member(3, 1, 2)}).code() ==
        Code::already_exists);
  CHECK(refused({member(1, 1, 1)}).code() == Code::invalid_argument);
  CHECK(refused({member(1, 1, proto::scheduler::max_gang + 1)}).code() == Code::invalid_argument);
  for (std::uint32_t gang = 0; gang < max_gangs; ++gang)
    REQUIRE(site.core.submit(t, std::vector{member(100 + gang, gang, 2)}, site.now));
  CHECK(refused({member(1, max_gangs, 2)}).code() == Code::quota);
  CHECK(site.core.cancel_range(t, 0, ~std::uint64_t{0})->pending == max_gangs);
}

TEST_CASE("A gang of which one waits for another ends with an error, also through other gangs") {
  Fixture f(4);
  const TenantId t = f.tenant();
  f.submit(t, {member(1, 1, 2), task(2, {1}), member(3, 1, 2, {2})});
  CHECK(f.running.empty());
  auto ended = statuses(f, t);
  CHECK(ended.at(1) == Code::invalid_argument);
  CHECK((ended.at(2) == Code::cancelled && ended.at(3) == Code::cancelled));
  CHECK(f.core.failure(t, 1)->find("waits for another of it") != std::string::npos);
  f.submit(t, {member(11, 1, 2), member(12, 2, 2), member(13, 1, 2, {12}), member(14, 2, 2, {11})});
  CHECK(f.running.empty());
  CHECK(statuses(f, t).size() == 4);
  CHECK(f.core.idle());
  // One after the other is no circle.
  f.submit(t, {member(21, 1, 2), member(22, 1, 2), member(23, 2, 2, {21}), member(24, 2, 2, {22})});
  CHECK(f.running_tags() == Tags{21, 22});
}

TEST_CASE("Members go to different devices, and only together") {
  Site site({1, 1});
  const TenantId t = site.open(1);
  site.submit(t, {of(2, task(1))});
  const DeviceId busy = site.on.at(1);
  site.submit(t, {member(11, 1, 2), member(12, 1, 2)});
  CHECK(site.running.size() == 1);
  site.end(1, 100 * ms);
  REQUIRE((site.running.contains(11) && site.running.contains(12)));
  CHECK(site.on.at(11) != site.on.at(12));
  CHECK((busy == 0 || busy == 1));
}

TEST_CASE("Until a gang can start others pass it that are done by then, and no more afterwards") {
  Site site({2});
  const TenantId t = site.open(1);
  // 100 ms and 10 ms.
  site.submit(t, {of(2, task(1)), task(2)});
  site.submit(t, {member(11, 1, 2), member(12, 1, 2)});
  site.submit(t, {of(2, task(3)), of(1, task(4)), of(1, task(5)), of(1, task(6))});
  site.end(2, 10 * ms);
  // The long one would be in the way for long; a short one is not.
  CHECK((site.running.contains(1) && site.running.contains(4) && site.running.size() == 2));
  site.end(4, ms);
  CHECK((site.running.contains(5) && site.running.size() == 2));
  // When the time is near nobody passes any more, whatever is late.
  site.now += 87 * ms + ms / 2;
  site.end(5, ms);
  CHECK((site.running.contains(1) && site.running.size() == 1));
  site.end(1, ms);
  CHECK((site.running.contains(11) && site.running.contains(12) && site.running.size() == 2));
}

TEST_CASE("A gang that waits longer than foreseen starts beside the tasks of other users") {
  Site site({2});
  const TenantId other = site.open(2, 1001);
  site.submit(other, {of(2, task(901)), of(2, task(902))});
  const TenantId t = site.open(1);
  site.submit(t, {member(11, 1, 2), member(12, 1, 2)});
  CHECK(site.running.size() == 2);
  CHECK(site.core.decide_again_ns() <= site.now + 100 * ms + gang_patience_ns);
  site.wait(100 * ms);
  CHECK(site.running.size() == 2);
  site.wait(gang_patience_ns);
  CHECK(site.running.size() == 4);
}

TEST_CASE("A gang is not kept waiting by a stream of another user's tasks") {
  Site site({2});
  const TenantId other = site.open(2, 1001);
  const TenantId t = site.open(1);
  std::vector<TaskRecord> stream;
  for (std::uint64_t tag = 901; tag < 1001; ++tag) stream.push_back(task(tag));
  site.submit(other, stream);
  site.submit(t, {member(11, 1, 2), member(12, 1, 2)});
  for (int i = 0; i < 100 && !site.running.contains(11); ++i) {
    CHECK(!site.running.contains(12));
    site.end(site.running.begin()->first, 10 * ms);
  }
  CHECK((site.running.contains(11) && site.running.contains(12)));
}

TEST_CASE("A gang ends with an error when a device is gone that it needs") {
  Site site({1, 1});
  const TenantId t = site.open(1);
  site.submit(t, {of(2, task(1))});
  site.submit(t, {member(11, 1, 2), member(12, 1, 2)});
  site.core.set_device(1 - site.on.at(1), 1, false, "cpu");
  site.run();
  Core::Completion some[4];
  REQUIRE(site.core.take_completions(t, some) == 2);
  for (const auto& c : {some[0], some[1]}) {
    if (c.tag == 11) CHECK(c.status == static_cast<std::uint32_t>(Code::service_down));
    if (c.tag == 12) CHECK(c.status == static_cast<std::uint32_t>(Code::cancelled));
  }
}

TEST_CASE("A gang in a graph with a deadline waits for it to be accepted, or is gone with it") {
  Site site({2});
  const TenantId t = site.open(1);
  const std::uint32_t late = *site.core.open_graph(t, site.now + ms, site.now);
  REQUIRE(site.core.submit(t, std::vector{member(1, 1, 2), member(2, 1, 2)}, site.now, late));
  site.run();
  CHECK(site.running.empty());
  REQUIRE(site.core.admit_graph(t, late, false, site.now));
  Core::Completion some[4];
  CHECK(site.core.take_completions(t, some) == 0);
  CHECK(site.core.idle());
  const std::uint32_t graph = *site.core.open_graph(t, site.now + 900 * ms, site.now);
  REQUIRE(site.core.submit(t, std::vector{member(1, 1, 2), member(2, 1, 2)}, site.now, graph));
  REQUIRE(site.core.admit_graph(t, graph, false, site.now));
  site.run();
  CHECK(site.running.size() == 2);
}

// ---- ranks and admission -----------------------------------------------------------------------

TEST_CASE("Who waits for a gang waits for what follows any of it") {
  Site site({2});
  const TenantId t = site.open(1);
  // Before 20 there is 10 alone; but 21, which starts with it, has a long way after it.
  site.submit(t, {of(2, task(1)), of(2, task(2)), task(10), member(20, 7, 2, {10}),
                  member(21, 7, 2), of(2, task(30, {21}))});
  CHECK(site.running.contains(10));
  CHECK(site.running.size() == 2);
}

namespace {

/// Six gangs of three on four slots: only one has room at a time.
constexpr std::uint64_t gangs = 6;

std::vector<TaskRecord> gangs_of_three() {
  std::vector<TaskRecord> records;
  for (std::uint32_t g = 1; g <= gangs; ++g)
    for (std::uint32_t i = 0; i < 3; ++i) records.push_back(member(10 * g + i, g, 3));
  return records;
}

/// Until nothing runs any more; when the last has ended.
std::uint64_t run_all(Site& site) {
  while (!site.running.empty()) {
    site.now += 10 * ms;
    const auto now_running = site.running;
    for (const auto& [tag, ref] : now_running) {
      Core::RunReply reply{};
      reply.start_ns = site.now - 10 * ms;
      reply.end_ns = site.now;
      site.core.task_answered(ref, reply);
      site.running.erase(tag);
    }
    site.run();
  }
  return site.now;
}

Core::Admitted ask(Site& site, TenantId t, std::uint64_t within_ns) {
  const auto graph = site.core.open_graph(t, site.now + within_ns, site.now);
  REQUIRE(graph);
  REQUIRE(site.core.submit(t, gangs_of_three(), site.now, *graph));
  const auto answer = site.core.admit_graph(t, *graph, false, site.now);
  REQUIRE(answer);
  site.run();
  return *answer;
}

}  // namespace

TEST_CASE("A graph of gangs is refused that its tasks alone, without their gangs, would not be") {
  using Verdict = proto::scheduler::Verdict;
  constexpr std::uint64_t deadline = 55 * ms;
  // As if each of its 18 tasks had a slot whenever there is one: 45 ms for all.
  Admission alone;
  const GraphDemand demand{gangs * 3 * 10.0 * ms / 4, 10.0 * ms, deadline, 1000, 0, true};
  CHECK(alone.look(demand, 0).accepted);
  // In truth it takes 60 ms.
  Site truth({4});
  const std::uint64_t began = truth.now;
  truth.submit(truth.open(1), gangs_of_three());
  CHECK(run_all(truth) - began == gangs * 10 * ms);
  Site site({4});
  const TenantId t = site.open(1);
  CHECK(static_cast<Verdict>(ask(site, t, deadline).verdict) == Verdict::too_late);
  CHECK(site.running.empty());
  // With the time that it takes it is accepted, and keeps its word.
  const Core::Admitted answer = ask(site, t, 75 * ms);
  CHECK(static_cast<Verdict>(answer.verdict) == Verdict::accepted);
  CHECK(answer.finish_ns >= answer.now_ns + 60 * ms);
  CHECK(run_all(site) <= answer.deadline_ns);
  CHECK(site.core.admission().accepted_of(1000) == 0);
}

TEST_CASE("A gang is in the way of the next no longer than its shortest member runs") {
  // Of each gang one takes 10 ms and one 1 ms, on three slots.
  const std::vector<TaskRecord> records{member(10, 1, 2), of(1, member(11, 1, 2)), member(20, 2, 2),
                                        of(1, member(21, 2, 2))};
  Site truth({3});
  const std::uint64_t began = truth.now;
  truth.submit(truth.open(1), records);
  CHECK(truth.running.size() == 2);
  truth.end(11, ms);
  CHECK(truth.running.size() == 3);
  truth.end(21, ms);
  CHECK(truth.running.contains(10));
  CHECK(truth.running.contains(20));
  CHECK(truth.now - began == 2 * ms);
  Site site({3});
  const TenantId t = site.open(1);
  const auto graph = site.core.open_graph(t, site.now + 18 * ms, site.now);
  REQUIRE(graph);
  REQUIRE(site.core.submit(t, records, site.now, *graph));
  const auto answer = site.core.admit_graph(t, *graph, false, site.now);
  REQUIRE(answer);
  CHECK(answer->verdict == static_cast<std::uint32_t>(proto::scheduler::Verdict::accepted));
  CHECK(answer->finish_ns < site.now + 15 * ms);
}

TEST_CASE("All of a gang begin with the last of it, and so do those that follow any") {
  Site site({4});
  const TenantId t = site.open(1);
  // 1 takes 100 ms, and 20 waits for it; 30 follows 21 alone, for another 100 ms.
  const auto graph = site.core.open_graph(t, site.now + 190 * ms, site.now);
  REQUIRE(graph);
  REQUIRE(site.core.submit(t,
                           std::vector<TaskRecord>{member(21, 7, 2), of(2, task(1)),
                                                   member(20, 7, 2, {1}), of(2, task(30, {21}))},
                           site.now, *graph));
  const auto answer = site.core.admit_graph(t, *graph, false, site.now);
  REQUIRE(answer);
  CHECK(answer->finish_ns >= site.now + 210 * ms);
  CHECK(answer->verdict == static_cast<std::uint32_t>(proto::scheduler::Verdict::too_late));
}

namespace {

/// When a graph would be done, of which nothing is begun.
std::uint64_t done_after_ns(Site& site, TenantId t, const std::vector<TaskRecord>& records) {
  const auto graph = site.core.open_graph(t, site.now + 3'600'000 * ms, site.now);
  REQUIRE(graph);
  for (std::size_t i = 0; i < records.size(); i += 1024)
    REQUIRE(site.core.submit(
        t, std::span(records).subspan(i, std::min<std::size_t>(1024, records.size() - i)), site.now,
        *graph));
  const auto answer = site.core.admit_graph(t, *graph, false, site.now);
  REQUIRE(answer);
  return answer->finish_ns - site.now;
}

}  // namespace

TEST_CASE("A way from gang to gang is found however its tasks come") {
  // Of each gang the second member waits for a task after the gang that comes later.
  constexpr std::uint32_t count = 12;
  std::vector<TaskRecord> records;
  for (std::uint32_t g = 1; g <= count; ++g) {
    records.push_back(member(100 + g, g, 2));
    records.push_back(task(200 + g, {100 + g}));
  }
  for (std::uint32_t g = 1; g < count; ++g) records.push_back(member(300 + g, g, 2, {201 + g}));
  records.push_back(member(300 + count, count, 2));
  Site site({64});
  const std::uint64_t found_ns = done_after_ns(site, site.open(1), records);
  CHECK(found_ns >= count * 20 * ms);
  CHECK(found_ns < (count + 1) * 20 * ms);
}

TEST_CASE("A graph as large as may be, of which every task names as many before it, is answered") {
  std::vector<TaskRecord> records;
  for (std::uint32_t i = 1; i <= proto::scheduler::max_graph_tasks; ++i) {
    TaskRecord record = of(1, i <= 2 ? member(i, 1, 2) : task(i));
    for (std::uint32_t d = 1; i > 2 && d <= std::min(i - 1, proto::scheduler::max_dependencies);
         ++d)
      record.dependencies[record.dependency_count++] = i - d;
    records.push_back(record);
  }
  Site site({64});
  // One after the other, but for the two that begin together.
  const std::uint64_t found_ns = done_after_ns(site, site.open(1), records);
  CHECK(found_ns >= (proto::scheduler::max_graph_tasks - 1) * ms);
}

}  // namespace aios::scheduler
