// Graphs with deadlines in the core: held, accepted or refused. One device, one slot; each task of
// the codelet `work` is known to take 10 ms.
#include "services/scheduler/costs/learned_costs.hpp"
#include "tests/unit/scheduler/told_core.hpp"

namespace aios::scheduler {
namespace {

constexpr std::uint64_t ms = 1'000'000;
using wire_verdict = proto::scheduler::Verdict;
using wire_promise = proto::scheduler::Promise;
using wire_state = proto::scheduler::GraphState;

class Site : public ToldCore {
 public:
  explicit Site(std::string_view policy = "learned") : ToldCore(*make_policy(policy)) {
    add_device(0, 1);
    core.all_devices_known();
    tell("work", 0, 10 * ms);
  }

  TenantId open(JobId job, std::uint32_t user = 1000) {
    const TenantId id = *core.open_tenant(job, "job", user);
    REQUIRE(core.add_codelet(id, proto::Text<64>::from("work")));
    return id;
  }
  /// The number of a graph of so many tasks in a row, from `tag` on.
  std::uint32_t graph(TenantId of, std::uint64_t deadline_ns, std::uint64_t tag, std::size_t count,
                      std::int32_t priority = 0) {
    const auto number = core.open_graph(of, deadline_ns, now);
    REQUIRE(number);
    std::vector<TaskRecord> records;
    for (std::size_t i = 0; i < count; ++i)
      records.push_back(i == 0
                            ? task(tag, {}, priority)
                            : task(tag + i, {static_cast<std::uint32_t>(tag + i - 1)}, priority));
    REQUIRE(core.submit(of, records, now, *number));
    run();
    return *number;
  }
  Core::Admitted admit(TenantId of, std::uint32_t number) {
    const auto answer = core.admit_graph(of, number, false, now);
    REQUIRE(answer);
    run();
    return *answer;
  }
  wire_verdict verdict(TenantId of, std::uint32_t number) {
    return static_cast<wire_verdict>(admit(of, number).verdict);
  }
  std::size_t completions(TenantId of) {
    std::size_t count = 0;
    Core::Completion some[16];
    while (const std::uint32_t n = core.take_completions(of, some)) count += n;
    return count;
  }
  const GraphLog::Entry& logged(std::uint64_t number) {
    return *core.graphs().next(number - 1, 0, true);
  }
};

/// Predicted a little later than so long from now, for a critical path has its say.
bool is_in(std::uint64_t finish_ns, std::uint64_t now_ns, std::uint64_t in_ns) {
  return finish_ns > now_ns + in_ns && finish_ns < now_ns + in_ns * 3 / 2;
}

}  // namespace

TEST_CASE("Tasks of a graph wait until it is accepted, and then keep its deadline") {
  Site site;
  const TenantId t = site.open(1);
  const std::uint32_t graph = site.graph(t, site.now + 100 * ms, 1, 3);
  CHECK(site.running.empty());
  const Core::Admitted answer = site.admit(t, graph);
  CHECK(answer.verdict == static_cast<std::uint32_t>(wire_verdict::accepted));
  CHECK(answer.promise == static_cast<std::uint32_t>(wire_promise::made));
  CHECK(answer.tasks == 3);
  CHECK(is_in(answer.finish_ns, site.now, 30 * ms));
  REQUIRE(site.running.contains(1));
  CHECK(site.core.find(site.running.at(1))->record.deadline_ns == site.now + 100 * ms);
  for (const std::uint64_t tag : {1, 2, 3}) site.end(tag);
  CHECK(site.completions(t) == 3);
  CHECK(site.logged(1).state == static_cast<std::uint32_t>(wire_state::done));
  CHECK(site.logged(1).ended_ns == site.now);
}

TEST_CASE("A graph that would be too late is refused, and nothing of it is left") {
  Site site;
  const TenantId t = site.open(1);
  const Core::Admitted answer = site.admit(t, site.graph(t, site.now + 25 * ms, 1, 3));
  CHECK(answer.verdict == static_cast<std::uint32_t>(wire_verdict::too_late));
  CHECK(is_in(answer.finish_ns, site.now, 30 * ms));
  CHECK(answer.finish_p95_ns > answer.finish_ns);
  CHECK(site.running.empty());
  CHECK(site.completions(t) == 0);
  CHECK(site.core.idle());
  CHECK(site.core.next_task(0, 0, true).number == 0);
  CHECK(site.logged(1).state == static_cast<std::uint32_t>(wire_state::refused));
  // Its tags are free again, and so is its place.
  CHECK(site.verdict(t, site.graph(t, site.now + 90 * ms, 1, 3)) == wire_verdict::accepted);
}

TEST_CASE("What was accepted before and is due before is waited for; what is done is not") {
  Site site;
  const TenantId t = site.open(1);
  REQUIRE(site.verdict(t, site.graph(t, site.now + 80 * ms, 1, 4)) == wire_verdict::accepted);
  const std::uint64_t due_ns = site.now + 100 * ms;
  CHECK(site.verdict(t, site.graph(t, due_ns, 11, 4)) == wire_verdict::too_late);
  site.end(1, ms);
  site.end(2, ms);
  CHECK(site.verdict(t, site.graph(t, due_ns, 21, 4)) == wire_verdict::accepted);
}

TEST_CASE("A graph that would make an accepted one late harms others, also of another user") {
  Site site;
  const TenantId t = site.open(1);
  REQUIRE(site.verdict(t, site.graph(t, site.now + 90 * ms, 1, 5)) == wire_verdict::accepted);
  CHECK(site.verdict(t, site.graph(t, site.now + 80 * ms, 11, 3)) == wire_verdict::harms_others);
  const TenantId other = site.open(2, 1001);
  CHECK(site.verdict(other, site.graph(other, site.now + 900 * ms, 1, 5)) ==
        wire_verdict::harms_others);
}

TEST_CASE("Work without a deadline is not waited for, unless its priority is higher") {
  Site site;
  const TenantId t = site.open(1);
  std::vector<TaskRecord> plain;
  for (std::uint64_t tag = 1; tag <= 9; ++tag) plain.push_back(task(tag));
  REQUIRE(site.core.submit(t, plain, site.now));
  const Core::Admitted low = site.admit(t, site.graph(t, site.now + 60 * ms, 101, 3, -1));
  CHECK(low.verdict == static_cast<std::uint32_t>(wire_verdict::too_late));
  CHECK(is_in(low.finish_ns, site.now, 120 * ms));
  CHECK(site.verdict(t, site.graph(t, site.now + 90 * ms, 201, 3)) == wire_verdict::accepted);
  // One of the plain tasks runs; then comes the graph.
  site.end(1);
  CHECK(site.running.contains(201));
}

TEST_CASE("Accepted graphs go by their deadlines, from whichever tenant of the user they are") {
  Site site;
  const TenantId a = site.open(1);
  const TenantId b = site.open(2);
  REQUIRE(site.core.submit(a, std::vector{task(1), task(2), task(3)}, site.now));
  site.run();
  REQUIRE(site.verdict(b, site.graph(b, site.now + 500 * ms, 11, 1)) == wire_verdict::accepted);
  REQUIRE(site.verdict(a, site.graph(a, site.now + 300 * ms, 21, 1)) == wire_verdict::accepted);
  site.end(1);
  CHECK(site.running.contains(21));
  site.end(21);
  CHECK(site.running.contains(11));
}

TEST_CASE("Of another user as much is waited for as there is, at most as much as one's own") {
  Site site;
  const TenantId other = site.open(2, 1001);
  REQUIRE(site.core.submit(other, std::vector{task(1), task(2)}, site.now));
  const TenantId t = site.open(1);
  CHECK(
      is_in(site.admit(t, site.graph(t, site.now + 500 * ms, 1, 1)).finish_ns, site.now, 20 * ms));
  CHECK(
      is_in(site.admit(t, site.graph(t, site.now + 900 * ms, 11, 4)).finish_ns, site.now, 70 * ms));
}

TEST_CASE("Of what nothing is known nothing is promised, and the rest must fit") {
  Site site;
  const TenantId t = site.open(1);
  site.costs->estimates[{"work", 0}].level = Level::none;
  const Core::Admitted answer = site.admit(t, site.graph(t, site.now + 100 * ms, 1, 3));
  CHECK(answer.verdict == static_cast<std::uint32_t>(wire_verdict::accepted));
  CHECK(answer.promise == static_cast<std::uint32_t>(wire_promise::unknown_costs));
  CHECK(answer.unknown == 3);
  CHECK(site.verdict(t, site.graph(t, site.now + 20 * ms, 11, 3)) == wire_verdict::too_late);
}

TEST_CASE("A policy that does not predict accepts without a promise") {
  Site site("edf");
  const TenantId t = site.open(1);
  const Core::Admitted answer = site.admit(t, site.graph(t, site.now + 1, 1, 3));
  CHECK(answer.verdict == static_cast<std::uint32_t>(wire_verdict::accepted));
  CHECK(answer.promise == static_cast<std::uint32_t>(wire_promise::no_policy));
  CHECK(answer.finish_ns == 0);
}

TEST_CASE("A refused graph whose tasks name a slow device is told that others would do") {
  Site site;
  site.core.set_device(1, 1, true, "fast1");
  site.core.set_open_time(1, 0);
  site.costs->tell("work", 1, ms);
  site.costs->estimates[{"work", 1}].level = Level::history;
  const TenantId t = site.open(1);
  const std::uint32_t graph = *site.core.open_graph(t, site.now + 20 * ms, site.now);
  std::vector<TaskRecord> records = {task(1), task(2, {1}), task(3, {2})};
  for (TaskRecord& record : records) record.device = 1;
  REQUIRE(site.core.submit(t, records, site.now, graph));
  const Core::Admitted answer = site.admit(t, graph);
  CHECK(answer.verdict == static_cast<std::uint32_t>(wire_verdict::too_late));
  CHECK(answer.anywhere_p95_ns > site.now + 3 * ms);
  CHECK(answer.anywhere_p95_ns <= site.now + 20 * ms);
}

namespace {

/// A site where `work` has a cheaper variant that takes 1 ms.
TenantId open_with_cheaper(Site& site) {
  site.costs->tell("draft", 0, ms);
  site.costs->estimates[{"draft", 0}].level = Level::history;
  const TenantId t = site.open(1);
  REQUIRE(*site.core.add_codelet(t, proto::Text<64>::from("draft")) == 1);
  REQUIRE(site.core.set_cheaper(t, 0, 1));
  return t;
}

/// Three tasks in a row, of which the first so many may be cheaper.
Core::Admitted ask(Site& site, TenantId t, std::uint64_t in_ns, std::uint64_t tag, int permitted) {
  const std::uint32_t graph = *site.core.open_graph(t, site.now + in_ns, site.now);
  std::vector<TaskRecord> records;
  for (std::uint32_t i = 0; i < 3; ++i) {
    records.push_back(i == 0 ? task(tag)
                             : task(tag + i, {static_cast<std::uint32_t>(tag) + i - 1}));
    if (static_cast<int>(i) < permitted)
      records.back().flags |= proto::scheduler::task_flag::may_be_cheaper;
  }
  REQUIRE(site.core.submit(t, records, site.now, graph));
  return site.admit(t, graph);
}

}  // namespace

TEST_CASE("A graph that is too late is told when its cheaper variants would be done") {
  Site site;
  const TenantId t = open_with_cheaper(site);
  const Core::Admitted answer = ask(site, t, 20 * ms, 1, 0);
  CHECK(answer.verdict == static_cast<std::uint32_t>(wire_verdict::too_late));
  CHECK(is_in(answer.finish_ns, site.now, 30 * ms));
  CHECK(answer.cheaper_tasks == 3);
  CHECK(answer.cheaper_p95_ns > site.now + 3 * ms);
  CHECK(answer.cheaper_p95_ns <= site.now + 20 * ms);
  CHECK(site.core.idle());
  // Neither what would be too late as well, nor what is not known, is offered.
  CHECK(ask(site, t, 2 * ms, 1, 0).cheaper_p95_ns == 0);
  site.costs->estimates[{"draft", 0}].level = Level::none;
  CHECK(ask(site, t, 20 * ms, 1, 0).cheaper_p95_ns == 0);
}

TEST_CASE("Tasks that permit it run in cheaper variants where their graph is too late otherwise") {
  Site site;
  const TenantId t = open_with_cheaper(site);
  const Core::Admitted answer = ask(site, t, 20 * ms, 1, 3);
  CHECK(answer.verdict == static_cast<std::uint32_t>(wire_verdict::accepted));
  CHECK(answer.promise == static_cast<std::uint32_t>(wire_promise::made));
  CHECK(answer.cheaper_tasks == 3);
  CHECK(is_in(answer.finish_ns, site.now, 3 * ms));
  REQUIRE(site.running.contains(1));
  const Task* first = site.core.find(site.running.at(1));
  CHECK(first->record.codelet == 1);
  CHECK(first->upward_rank_ns == 3 * ms);
  for (const std::uint64_t tag : {1, 2, 3}) site.end(tag, ms);
  CHECK(site.logged(1).state == static_cast<std::uint32_t>(wire_state::done));
  // Where there is time they are as good as they can be.
  const Core::Admitted well = ask(site, t, 900 * ms, 11, 3);
  CHECK(well.cheaper_tasks == 0);
  CHECK(site.core.find(site.running.at(11))->record.codelet == 0);
}

TEST_CASE("Only the tasks that permit it are cheaper, and the others may be offered to be") {
  Site site;
  const TenantId t = open_with_cheaper(site);
  const Core::Admitted refused = ask(site, t, 15 * ms, 1, 2);
  CHECK(refused.verdict == static_cast<std::uint32_t>(wire_verdict::too_late));
  CHECK(is_in(refused.finish_ns, site.now, 12 * ms));
  CHECK(refused.cheaper_tasks == 3);
  CHECK(refused.cheaper_p95_ns <= site.now + 15 * ms);
  const Core::Admitted answer = ask(site, t, 30 * ms, 1, 2);
  CHECK(answer.verdict == static_cast<std::uint32_t>(wire_verdict::accepted));
  CHECK(answer.cheaper_tasks == 2);
  site.end(1, ms);
  site.end(2, ms);
  CHECK(site.core.find(site.running.at(3))->record.codelet == 0);
}

TEST_CASE("A cheaper variant that is not known is taken without a promise") {
  Site site;
  const TenantId t = open_with_cheaper(site);
  site.costs->estimates[{"draft", 0}].level = Level::none;
  const Core::Admitted answer = ask(site, t, 20 * ms, 1, 3);
  CHECK(answer.verdict == static_cast<std::uint32_t>(wire_verdict::accepted));
  CHECK(answer.promise == static_cast<std::uint32_t>(wire_promise::unknown_costs));
  CHECK((answer.cheaper_tasks == 3 && answer.unknown == 3));
}

TEST_CASE("A cheaper variant is another codelet of the tenant that runs wherever the first does") {
  Site site;
  const TenantId t = site.open(1);
  namespace backend = proto::driver::backend;
  REQUIRE(site.core.add_codelet(t, {}, backend::cpu | backend::cuda));
  CHECK(site.core.set_cheaper(t, 1, 0).error().code() == Code::invalid_argument);
  CHECK(site.core.set_cheaper(t, 0, 1));
  CHECK(site.core.set_cheaper(t, 0, 0).error().code() == Code::invalid_argument);
  CHECK(site.core.set_cheaper(t, 0, 2).error().code() == Code::invalid_argument);
  CHECK(site.core.set_cheaper(t, 2, 0).error().code() == Code::invalid_argument);
  CHECK(site.core.set_cheaper(t + 1, 0, 1).error().code() == Code::not_found);
}

TEST_CASE("A graph's deadline in the past, an unknown graph and one without tasks are errors") {
  Site site;
  const TenantId t = site.open(1);
  CHECK(site.core.open_graph(t, site.now, site.now).error().code() == Code::invalid_argument);
  CHECK(site.core.submit(t, std::vector{task(1)}, site.now, 7).error().code() == Code::not_found);
  CHECK(site.core.admit_graph(t, 7, false, site.now).error().code() == Code::not_found);
  const std::uint32_t graph = *site.core.open_graph(t, site.now + ms, site.now);
  CHECK(site.core.admit_graph(t, graph, false, site.now).error().code() == Code::invalid_argument);
  REQUIRE(site.core.admit_graph(t, graph, true, site.now));
  for (std::uint32_t i = 0; i < max_held_graphs; ++i)
    CHECK(site.core.open_graph(t, site.now + ms, site.now));
  CHECK(site.core.open_graph(t, site.now + ms, site.now).error().code() == Code::quota);
}

TEST_CASE("Held tasks are cancelled, closed and dropped like others") {
  Site site;
  const TenantId t = site.open(1);
  const std::uint32_t graph = site.graph(t, site.now + 900 * ms, 1, 4);
  REQUIRE(site.core.cancel(t, 2));
  CHECK(site.completions(t) == 3);
  CHECK(site.verdict(t, graph) == wire_verdict::accepted);
  site.end(1);
  CHECK(site.completions(t) == 1);
  const std::uint32_t gone = site.graph(t, site.now + 900 * ms, 11, 2);
  REQUIRE(site.core.cancel_range(t, 0, 100));
  CHECK(site.verdict(t, gone) == wire_verdict::accepted);
  site.graph(t, site.now + 900 * ms, 21, 2);
  site.core.close_tenant(t);
  site.run();
  CHECK(site.core.idle());
}

TEST_CASE("A task outside that waits for a refused one is cancelled") {
  Site site;
  const TenantId t = site.open(1);
  const std::uint32_t graph = site.graph(t, site.now + ms, 1, 2);
  REQUIRE(site.core.submit(t, std::vector{task(9, {2})}, site.now));
  CHECK(site.verdict(t, graph) == wire_verdict::too_late);
  Core::Completion some[4];
  REQUIRE(site.core.take_completions(t, some) == 1);
  CHECK(some[0].tag == 9);
  CHECK(some[0].status == static_cast<std::uint32_t>(Code::cancelled));
}

TEST_CASE("A task of a graph that depends on what has failed keeps no other from starting") {
  Site site;
  const TenantId t = site.open(1);
  REQUIRE(site.core.submit(t, std::vector{task(1)}, site.now));
  site.run();
  site.core.task_answered(site.running.at(1), error(Code::io_error, "no"));
  const std::uint32_t graph = *site.core.open_graph(t, site.now + 900 * ms, site.now);
  // The slot of the first is that of the second.
  REQUIRE(site.core.submit(t, std::vector{task(2, {1}), task(3)}, site.now, graph));
  CHECK(site.verdict(t, graph) == wire_verdict::accepted);
  CHECK(site.running.contains(3));
}

TEST_CASE("A graph of which a task failed is failed, and teaches nothing") {
  Site site;
  const TenantId t = site.open(1);
  REQUIRE(site.verdict(t, site.graph(t, site.now + 900 * ms, 1, 2)) == wire_verdict::accepted);
  site.core.task_answered(site.running.at(1), error(Code::io_error, "no"));
  site.run();
  CHECK(site.logged(1).state == static_cast<std::uint32_t>(wire_state::failed));
  CHECK(site.logged(1).failed == 2);
  CHECK(
      is_in(site.admit(t, site.graph(t, site.now + 900 * ms, 11, 2)).finish_ns, site.now, 20 * ms));
}

TEST_CASE("Data that has to be moved for a graph's tasks counts in when it is done") {
  Site site;
  const TenantId t = site.open(1);
  site.core.set_own_memory(0);
  constexpr std::uint64_t bytes = 100u << 20;
  // 1 ns a byte: 105 ms.
  site.core.copied(1, 0, {{{}, {10, 10 * bytes, 10 * bytes}}, {}}, 1'000'000'000);
  const std::uint32_t data = *site.core.add_buffer(t, true, bytes);
  const auto verdict_within = [&](std::uint64_t in_ns, std::uint64_t tag) {
    const std::uint32_t number = *site.core.open_graph(t, site.now + in_ns, site.now);
    TaskRecord reads = task(tag);
    reads.buffers[reads.buffer_count++] = data | AIOS_MODE_READ << 28;
    REQUIRE(site.core.submit(t, std::vector{reads}, site.now, number));
    return site.verdict(t, number);
  };
  CHECK(verdict_within(90 * ms, 1) == wire_verdict::too_late);
  CHECK(verdict_within(600 * ms, 2) == wire_verdict::accepted);
  site.end(2, 115 * ms);
}

}  // namespace aios::scheduler
