// Placements that look ahead: a core with a slow device of two slots and a fast one of one slot.
#include <limits>

#include "services/scheduler/policy/policy.hpp"
#include "tests/unit/scheduler/fixture.hpp"
#include "tests/unit/scheduler/told_costs.hpp"

namespace aios::scheduler {
namespace {

constexpr DeviceId slow = 0;
constexpr DeviceId fast = 1;

class Machine {
 public:
  explicit Machine(std::string_view policy) : Machine(*make_policy(policy)) {}

  std::uint32_t codelet(const std::string& name, double slow_ns, double fast_ns) {
    costs->tell(name, slow, slow_ns);
    costs->tell(name, fast, fast_ns);
    return *core.add_codelet(tenant, proto::Text<64>::from(name));
  }
  TaskRecord of(std::uint32_t codelet, std::uint64_t tag,
                std::initializer_list<std::uint32_t> dependencies = {}) {
    TaskRecord record = task(tag, dependencies);
    record.codelet = codelet;
    return record;
  }
  void submit(const std::vector<TaskRecord>& records) {
    REQUIRE(core.submit(tenant, records, now));
    run();
  }
  void run() {
    while (true) {
      core.decide(now);
      const std::vector<Action> actions = core.take_actions();
      if (actions.empty()) return;
      for (const Action& action : actions) carry_out(action);
    }
  }
  void end(std::uint64_t tag, std::uint64_t at) {
    now = at;
    Core::RunReply reply{};
    reply.start_ns = started_at.at(tag);
    reply.end_ns = at;
    reply.peak_memory_bytes = 4096;
    core.task_answered(running.at(tag), reply);
    running.erase(tag);
    run();
  }
  bool runs(std::uint64_t tag, DeviceId device) const {
    return running.contains(tag) && core.find(running.at(tag))->device == device;
  }

  ToldCosts* costs;
  Core core;
  TenantId tenant = 0;
  std::uint64_t now = 1000;
  std::map<std::uint64_t, TaskRef> running;
  std::map<std::uint64_t, std::uint64_t> started_at;
  Tags started;

 private:
  explicit Machine(Policy policy) : Machine(std::move(policy), std::make_unique<ToldCosts>()) {}
  Machine(Policy policy, std::unique_ptr<ToldCosts> told)
      : costs(told.get()),
        core(std::move(policy.order), std::move(policy.placement), std::move(told)) {
    core.set_device(slow, 2, true, "slow0");
    core.set_device(fast, 1, true, "fast0");
    for (const DeviceId d : {slow, fast}) core.set_open_time(d, 0);
    tenant = *core.open_tenant(1, "job", 1000);
    const std::uint32_t first = *core.add_codelet(tenant, proto::Text<64>::from("opens"));
    // Contexts on both devices, as if the job had been at work for a while.
    submit({of(first, 1), of(first, 2), of(first, 3), of(first, 4)});
    for (const std::uint64_t tag : {1, 2, 3, 4}) end(tag, now + 1);
    started.clear();
  }
  void carry_out(const Action& action) {
    if (action.kind == Action::Kind::open_context) core.context_ready(action.job, action.device);
    if (action.kind != Action::Kind::start) return;
    const std::uint64_t tag = core.find(action.task)->record.tag;
    started.push_back(tag);
    started_at[tag] = now;
    running[tag] = action.task;
  }
};

}  // namespace

TEST_CASE("A task waits for a busy device where it is done sooner than on a free one") {
  Machine m("dmda");
  const std::uint32_t work = m.codelet("work", 1000, 100);
  m.submit({m.of(work, 11), m.of(work, 12)});
  CHECK(m.runs(11, fast));
  CHECK_FALSE(m.running.contains(12));
  m.end(11, m.now + 100);
  CHECK(m.runs(12, fast));
}

TEST_CASE("Tasks that wait for a device are counted by those behind them") {
  Machine m("dmda");
  const std::uint32_t work = m.codelet("work", 350, 100);
  // 11 runs on the fast one until 100, 12 and 13 wait and would be done at 200 and 300; 14 would be
  // done at 400 there and at 350 on the slow one.
  m.submit({m.of(work, 11), m.of(work, 12), m.of(work, 13), m.of(work, 14)});
  CHECK(m.runs(11, fast));
  CHECK(m.runs(14, slow));
  CHECK(m.running.size() == 2);
}

TEST_CASE("A task behind those that wait starts on the device that they do not want") {
  Machine m("dmda");
  const std::uint32_t picky = m.codelet("picky", 10'000, 100);
  const std::uint32_t easy = m.codelet("easy", 100, 100);
  m.submit({m.of(picky, 11), m.of(picky, 12), m.of(picky, 13), m.of(easy, 14), m.of(easy, 15)});
  CHECK(m.runs(11, fast));
  CHECK(m.runs(14, slow));
  CHECK(m.runs(15, slow));
}

TEST_CASE("Who waits for a device that is late is asked again when another has become better") {
  Machine m("dmda");
  const std::uint32_t work = m.codelet("work", 10'000'000, 1'000'000);
  m.submit({m.of(work, 11), m.of(work, 12)});
  REQUIRE(m.runs(11, fast));
  // Due in 1 ms; from 9 ms after that the slow one is better.
  CHECK(m.core.decide_again_ns() == m.now + 10'000'000);
  m.now = m.core.decide_again_ns() - 1'000'000;
  m.run();
  CHECK_FALSE(m.running.contains(12));
  CHECK(m.core.decide_again_ns() > m.now);
  m.now += 1'100'000;
  m.run();
  CHECK(m.runs(12, slow));
  CHECK(m.core.decide_again_ns() == ~std::uint64_t{0});
}

TEST_CASE("A context is opened where the task is done sooner, opening it included") {
  Machine m("dmda");
  const std::uint32_t work = m.codelet("work", 10'000'000, 1'000'000);
  const TenantId other = *m.core.open_tenant(2, "other", 1000);
  REQUIRE(m.core.add_codelet(other, proto::Text<64>::from("work")));
  m.core.set_open_time(slow, 1'000'000);
  for (const auto& [open_ns, device] :
       {std::pair{20'000'000u, slow}, std::pair{5'000'000u, fast}}) {
    m.core.set_open_time(fast, open_ns);
    TaskRecord record = task(open_ns);
    record.codelet = 0;
    REQUIRE(m.core.submit(other, std::vector{record}, m.now));
    m.core.decide(m.now);
    const std::vector<Action> actions = m.core.take_actions();
    REQUIRE_FALSE(actions.empty());
    CHECK(actions.back().kind == Action::Kind::open_context);
    CHECK(actions.back().device == device);
    REQUIRE(m.core.cancel(other, open_ns));
    m.core.context_refused(2, device, Status(Code::busy, "later"));
  }
  m.submit({m.of(work, 11)});
}

TEST_CASE(
    "A task goes where its module is loaded, unless it is done sooner where that comes first") {
  Machine m("dmda");
  const std::uint32_t other = m.codelet("other", 10'000'000, 1'000'000);
  const std::uint32_t work = m.codelet("work", 10'000'000, 1'000'000);
  // To load a module takes as long as the last ones took.
  m.core.module_loaded(m.tenant, other, fast, 0, 40'000'000);
  m.core.module_loaded(m.tenant, work, slow, 0, 1'000'000);
  m.submit({m.of(work, 11)});
  CHECK(m.runs(11, slow));
  m.core.module_loaded(m.tenant, work, fast, 0, 40'000'000);
  m.submit({m.of(work, 12)});
  CHECK(m.runs(12, fast));
  m.end(11, m.now + 1);
  m.end(12, m.now + 1);
  // A new context has loaded nothing.
  m.core.context_lost(1, fast);
  m.core.context_ended(1, fast, {.has_successor = true});
  m.core.context_ready(1, fast);
  m.submit({m.of(work, 13)});
  CHECK(m.runs(13, slow));
}

TEST_CASE("A suspended context is waited for only by what nothing else may run") {
  for (const std::string policy : {"dmda", "learned"}) {
    CAPTURE(policy);
    Machine m(policy);
    const std::uint32_t work = m.codelet("work", 10'000'000, 1'000'000);
    m.costs->estimates[{"work", slow}].level = Level::history;
    m.costs->estimates[{"work", fast}].passed_over = 2;
    TaskRecord pinned = m.of(work, 12);
    pinned.device = 1 + fast;
    pinned.priority = 1;
    m.core.context_stalled(1, fast);
    m.submit({m.of(work, 11), pinned, m.of(work, 13), m.of(work, 14)});
    CHECK(m.runs(11, slow));
    CHECK(m.runs(13, slow));
    CHECK(m.running.size() == 2);
    m.end(11, m.now + 10'000'000);
    CHECK(m.runs(14, slow));
    // What waits for the others meanwhile is asked again once it goes on.
    m.submit({m.of(work, 15)});
    CHECK_FALSE(m.running.contains(15));
    m.core.context_resumed(1, fast);
    m.run();
    CHECK(m.runs(12, fast));
    m.end(12, m.now + 1'000'000);
    CHECK(m.runs(15, fast));
  }
}

TEST_CASE("With nothing free no decision is made twice") {
  Machine m("dmda");
  const std::uint32_t work = m.codelet("work", 100, 100);
  m.submit({m.of(work, 11), m.of(work, 12), m.of(work, 13), m.of(work, 14)});
  CHECK(m.running.size() == 3);
  CHECK(m.core.decide_again_ns() == ~std::uint64_t{0});
}

TEST_CASE("By rank the task with the longest way to the end goes first") {
  Machine m("heft");
  const std::uint32_t work = m.codelet("work", 100, 100);
  const std::uint32_t all = m.codelet("all", 1, 1);
  m.submit({m.of(all, 5), m.of(all, 6), m.of(all, 7)});
  // 11 alone; 12 before 13 before 14.
  m.submit(
      {m.of(work, 11), m.of(work, 12), m.of(work, 13, {12}), m.of(work, 14, {13}), m.of(work, 15)});
  m.started.clear();
  m.end(5, m.now + 1);
  CHECK(m.started == Tags{12});
  m.end(6, m.now + 1);
  CHECK(m.started == Tags{12, 11});
}

TEST_CASE("A later batch lengthens the way of the tasks that it depends on") {
  Machine m("heft");
  const std::uint32_t work = m.codelet("work", 100, 100);
  m.submit({m.of(work, 5), m.of(work, 6), m.of(work, 7)});
  m.submit({m.of(work, 11, {5}), m.of(work, 12, {5})});
  m.submit({m.of(work, 13, {12})});
  m.started.clear();
  m.end(5, m.now + 1);
  CHECK(m.started == Tags{12});
}

/// In the order in which they start: two tasks, and two that came when all took a little longer.
Tags order_of_two_batches(double time_ns) {
  Machine m("heft");
  const std::uint32_t work = m.codelet("work", time_ns, time_ns);
  const auto takes_ns = static_cast<std::uint64_t>(time_ns);
  const auto on_slow = [&](std::uint64_t tag) {
    TaskRecord record = m.of(work, tag);
    record.device = 1 + slow;
    return record;
  };
  for (std::uint64_t tag = 11; tag < 11 + Brevity::least_samples; ++tag) {
    m.submit({on_slow(tag)});
    m.end(tag, m.now + takes_ns);
  }
  m.started.clear();
  m.core.context_stalled(1, slow);
  m.submit({on_slow(111), on_slow(112)});
  m.costs->tell("work", slow, 1.2 * time_ns);
  m.submit({on_slow(113), on_slow(114)});
  CHECK(m.started.empty());
  m.core.context_resumed(1, slow);
  m.run();
  while (!m.running.empty()) m.end(m.running.begin()->first, m.now + takes_ns);
  return m.started;
}

TEST_CASE("Small differences of rank do not order brief tasks") {
  CHECK(order_of_two_batches(5'000) == Tags{111, 112, 113, 114});
  CHECK(order_of_two_batches(5'000'000) == Tags{113, 114, 111, 112});
}

TEST_CASE("A task goes where its data is when that is worth the difference") {
  Machine m("dmda");
  m.core.set_memory(fast, 1);
  m.core.set_transfer(0, 1, {10, 1});
  m.core.set_transfer(1, 0, {10, 1});
  const std::uint32_t work = m.codelet("work", 150, 100);
  const std::uint32_t data = *m.core.add_buffer(m.tenant, true, 1000);
  const auto uses = [&](TaskRecord record, std::uint32_t mode) {
    record.buffers[record.buffer_count++] = data | mode << 28;
    return record;
  };
  // The data is the host's: 1,010 to bring it over.
  m.submit({uses(m.of(work, 11), AIOS_MODE_READ)});
  CHECK(m.runs(11, slow));
  m.end(11, m.now + 150);
  // A result needs not be brought; then it lies there, and only there.
  m.submit({uses(m.of(work, 12), AIOS_MODE_WRITE)});
  CHECK(m.runs(12, fast));
  m.end(12, m.now + 100);
  m.submit({uses(m.of(work, 13), AIOS_MODE_READ), m.of(work, 14)});
  CHECK(m.runs(13, fast));
  // Nothing says that 14 could not wait for 13, but the other one is done sooner.
  CHECK(m.runs(14, slow));
  m.end(13, m.now + 100);
  const std::uint32_t long_here = m.codelet("long_here", 1000, 3000);
  m.submit({uses(m.of(long_here, 15), AIOS_MODE_READ)});
  CHECK(m.runs(15, slow));
  const Task& after = *m.core.find(m.running.at(15));
  CHECK(m.core.transfer_to(after, slow).bytes == 0);
  CHECK(m.core.transfer_to(after, fast).bytes == 0);
}

namespace {

TaskRecord with(TaskRecord record, std::uint32_t buffer, std::uint32_t mode) {
  record.buffers[record.buffer_count++] = buffer | mode << 28;
  return record;
}

/// A bus, as contexts that have copied 16 MiB each way say.
proto::context::Copies::Reply bus(double ns_per_byte) {
  const std::uint64_t bytes = 16u << 20;
  const auto ns = static_cast<std::uint64_t>(ns_per_byte * static_cast<double>(bytes));
  return {{{}, {100, 100 * bytes, 100 * ns}}, {{}, {100, 100 * bytes, 100 * ns}}};
}

constexpr std::uint64_t big = 16u << 20;

}  // namespace

TEST_CASE("What contexts say of their copies decides whether data is worth moving") {
  Machine m("dmda");
  m.core.set_own_memory(fast);
  m.core.set_own_memory(fast);
  CHECK(m.core.copy_costs(slow) == nullptr);
  const std::uint32_t work = m.codelet("work", 10'000'000, 1'000'000);
  const std::uint32_t data = *m.core.add_buffer(m.tenant, true, big);
  m.core.copied(1, fast, bus(2), 1'000'000'000);  // 34 ms for all of it
  m.submit({with(m.of(work, 11), data, AIOS_MODE_READ)});
  REQUIRE(m.runs(11, slow));
  CHECK(m.core.transfer_to(*m.core.find(m.running.at(11)), fast).ns ==
        doctest::Approx(2.0 * big).epsilon(0.02));
  m.end(11, m.now + 10'000'000);
  for (int i = 0; i < 4; ++i) m.core.copied(1, fast, bus(0.1), 1'000'000'000);  // at last 1.8 ms
  m.submit({with(m.of(work, 12), data, AIOS_MODE_READ)});
  CHECK(m.runs(12, fast));
  m.end(12, m.now + 1'000'000);
  // Of a job that is not there, or a device without: nothing.
  m.core.copied(77, fast, bus(50), 1'000'000'000);
  m.core.copied(1, slow, bus(50), 1'000'000'000);
  CHECK(m.core.copy_costs(fast)->samples() == 1000);
}

TEST_CASE(
    "What a device writes is copied back: it is the host's at once, and that takes its time") {
  Machine m("dmda");
  m.core.set_own_memory(fast);
  m.core.copied(1, fast, bus(0.5), 1'000'000'000);  // 8.4 ms
  const std::uint32_t work = m.codelet("work", 10'000'000, 1'000'000);
  const std::uint32_t data = *m.core.add_buffer(m.tenant, true, big);
  m.submit({with(m.of(work, 11), data, AIOS_MODE_WRITE)});
  REQUIRE(m.runs(11, fast));
  const Task& first = *m.core.find(m.running.at(11));
  CHECK(first.transfer.bytes == big);
  CHECK(first.transfer.ns == doctest::Approx(0.5 * big).epsilon(0.02));
  // One that reads it there needs nothing, one that reads it here neither.
  m.submit({with(m.of(work, 12, {11}), data, AIOS_MODE_READ)});
  const auto moved = [&](std::uint64_t tag, DeviceId device) {
    return m.core.transfer_to(*m.core.find(m.running.at(tag)), device).bytes;
  };
  m.end(11, m.now + 9'400'000);
  REQUIRE(m.running.contains(12));
  CHECK(moved(12, fast) == 0);
  CHECK(moved(12, slow) == 0);
  m.end(12, m.now + 1'000'000);
  // No task uses it: the client may have changed it, so it is to be brought again.
  const std::uint32_t here = m.codelet("here", 1'000, 1'000'000);
  m.submit({with(m.of(here, 13), data, AIOS_MODE_READ)});
  CHECK(moved(13, fast) == big);
  CHECK(moved(13, slow) == 0);
}

TEST_CASE("What was brought to a device is gone with the context that brought it") {
  Machine m("dmda");
  m.core.set_own_memory(fast);
  m.core.copied(1, fast, bus(0.1), 1'000'000'000);
  const std::uint32_t work = m.codelet("work", 90'000'000, 1'000'000);
  const std::uint32_t data = *m.core.add_buffer(m.tenant, true, big);
  m.submit({with(m.of(work, 11), data, AIOS_MODE_READ),
            with(m.of(work, 12, {11}), data, AIOS_MODE_READ)});
  REQUIRE(m.runs(11, fast));
  m.end(11, m.now + 2'700'000);
  REQUIRE(m.runs(12, fast));
  const TaskRef ref = m.running.at(12);
  CHECK(m.core.transfer_to(*m.core.find(ref), fast).bytes == 0);
  m.core.context_lost(1, fast);
  m.core.context_ended(1, fast, {How::killed, "from outside", true});
  CHECK(m.core.transfer_to(*m.core.find(ref), fast).bytes == big);
  m.core.context_ready(1, fast);
  m.run();
}

TEST_CASE("The way to the end counts the data that may have to move") {
  Machine m("heft");
  m.core.set_memory(fast, 1);
  m.core.set_transfer(0, 1, {0, 9});
  m.core.set_transfer(1, 0, {0, 9});
  const std::uint32_t work = m.codelet("work", 100, 100);
  const std::uint32_t data = *m.core.add_buffer(m.tenant, true, 100);
  m.submit({m.of(work, 5), m.of(work, 6), m.of(work, 7)});
  TaskRecord writes = m.of(work, 12);
  writes.buffers[writes.buffer_count++] = data | AIOS_MODE_WRITE << 28;
  TaskRecord reads = m.of(work, 14, {12});
  reads.buffers[reads.buffer_count++] = data | AIOS_MODE_READ << 28;
  m.submit({m.of(work, 11), m.of(work, 13, {11}), writes, reads});
  m.started.clear();
  m.end(5, m.now + 1);
  CHECK(m.started == Tags{12});
}

TEST_CASE("What a task took is learned, with its device, unless it failed") {
  Machine m("dmda");
  const std::uint32_t work = m.codelet("work", 100, 50);
  m.costs->learned.clear();
  m.submit({m.of(work, 11), m.of(work, 12)});
  m.end(11, m.now + 60);
  REQUIRE(m.costs->learned.size() == 1);
  CHECK(m.costs->learned[0].device == fast);
  CHECK(m.costs->learned[0].time_ns == 60);
  CHECK(m.costs->learned[0].memory_bytes == 4096);
  m.core.task_answered(m.running.at(12), error(Code::invalid_argument, "no"));
  CHECK(m.costs->learned.size() == 1);
}

TEST_CASE("The codelets of a tenant are closed with it, in its user's name") {
  Machine m("dmda");
  m.codelet("work", 100, 50);
  CHECK(m.costs->codelets.back() == CodeletKey{0, 1000, "work"});
  m.core.close_tenant(m.tenant);
  CHECK(m.costs->closed.size() == 2);
}

TEST_CASE("Where the peak of memory does not fit, the next best device is taken") {
  Estimate big;
  big.time = {100, 100};
  big.memory = {1000, 2000};
  Estimate slower = big;
  slower.time = {150, 150};
  std::vector<Candidate> candidates(2);
  candidates[0].cost = &big;
  candidates[0].memory_free_bytes = 1999;
  candidates[0].memory_needed_bytes = candidates[1].memory_needed_bytes = 2000;
  candidates[1].device = 1;
  candidates[1].cost = &slower;
  const auto placement = make_earliest_finish_placement();
  Choice choice = placement->place({}, candidates);
  CHECK(choice.candidate == 1);
  CHECK(choice.reason == Reason::memory);
  candidates[1].memory_free_bytes = 1999;
  choice = placement->place({}, candidates);
  CHECK(choice.candidate == 0);
}

TEST_CASE("Where it is not known how much memory there is none is said to be too little") {
  Estimate wild;
  wild.time = {100, 100};
  wild.memory = {1000, std::numeric_limits<double>::infinity()};
  Estimate slower;
  slower.time = {150, 150};
  slower.memory = {1000, 2000};
  std::vector<Candidate> candidates(2);
  candidates[0].cost = &wild;
  candidates[1].device = 1;
  candidates[1].cost = &slower;
  const Choice choice = make_earliest_finish_placement()->place({}, candidates);
  CHECK(choice.candidate == 0);
  CHECK(choice.reason == Reason::earliest_finish);
}

TEST_CASE("Data that lies elsewhere makes a device finish later") {
  Estimate cost;
  cost.time = {100, 100};
  std::vector<Candidate> candidates(2);
  for (DeviceId d = 0; d < 2; ++d) {
    candidates[d].device = d;
    candidates[d].cost = &cost;
  }
  candidates[0].transfer_ns = 11;
  candidates[1].free_ns = 10;
  CHECK(make_earliest_finish_placement()->place({}, candidates).candidate == 1);
}

TEST_CASE("A device that was passed over for long is probed by a task that can afford it") {
  Estimate good, bad;
  good.time = {100, 100};
  bad.time = {3000, 3000};
  std::vector<Candidate> candidates(2);
  candidates[0].cost = &bad;
  candidates[0].free_slots = 1;
  candidates[1].device = 1;
  candidates[1].cost = &good;
  candidates[1].free_slots = 1;
  const auto placement = make_learned_placement();
  const PlacementFacts can_wait{0, 10'000};
  bad.passed_over = 999;
  bad.passed_over_ns = 99'900;
  CHECK(placement->place(can_wait, candidates).candidate == 1);
  bad.passed_over = 1000;
  bad.passed_over_ns = 100'000;
  CHECK(placement->place(can_wait, candidates).reason == Reason::probe);
  CHECK(placement->place({0, 100}, candidates).candidate == 1);
  candidates[0].free_slots = 0;
  CHECK(placement->place(can_wait, candidates).candidate == 1);
  candidates[0].free_slots = 1;
  bad.time = {30'000, 30'000};
  CHECK(placement->place({0, 100}, candidates).candidate == 1);
  bad.passed_over = 2048;
  bad.passed_over_ns = 204'800;
  CHECK(placement->place({0, 100}, candidates).reason == Reason::probe);
  // Not where the data would have to be moved for longer than the task takes.
  candidates[0].transfer_ns = 101;
  CHECK(placement->place({0, 100}, candidates).candidate == 1);
  candidates[0].transfer_ns = 0;
  // Nor where it would wait for longer than all probes may take: 3% of 2,048 tasks of 100 ns.
  constexpr std::uint64_t now_ns = 1'000'000;
  for (Candidate& candidate : candidates) candidate.free_ns = now_ns;
  candidates[0].free_ns = now_ns + 6'145;
  CHECK(placement->place({now_ns, 100}, candidates).candidate == 1);
  candidates[0].free_ns = now_ns + 6'144;
  CHECK(placement->place({now_ns, 100}, candidates).reason == Reason::probe);
}

TEST_CASE("A device where nothing like it ran is tried early, if it might be better at all") {
  Estimate known, guessed;
  known.time = guessed.time = {1000, 1000};
  known.level = Level::history;
  guessed.level = Level::hint;
  std::vector<Candidate> candidates(2);
  candidates[0].cost = &known;
  candidates[0].free_slots = 1;
  candidates[1].device = 1;
  candidates[1].cost = &guessed;
  candidates[1].free_slots = 1;
  candidates[1].transfer_ns = 900;
  const auto placement = make_learned_placement();
  const PlacementFacts no_slack{0, 0};
  guessed.passed_over = 1;
  CHECK(placement->place(no_slack, candidates).candidate == 0);
  guessed.passed_over = 2;
  CHECK(placement->place(no_slack, candidates).candidate == 1);
  CHECK(placement->place(no_slack, candidates).reason == Reason::probe);
  // What is known there is not tried again so soon.
  guessed.level = Level::history;
  CHECK(placement->place(no_slack, candidates).candidate == 0);
  guessed.level = Level::hint;
  // To open a context for it is worth while, to wait behind others is not.
  candidates[1].at_once = false;
  CHECK(placement->place(no_slack, candidates).candidate == 0);
  candidates[1].opens = true;
  CHECK(placement->place(no_slack, candidates).candidate == 1);
  guessed.time = {4001, 4001};
  CHECK(placement->place(no_slack, candidates).candidate == 0);
  guessed.time = {4000, 4000};
  CHECK(placement->place(no_slack, candidates).candidate == 1);
  // If it took no time at all it would not be done sooner.
  candidates[1].free_ns = 100;
  CHECK(placement->place(no_slack, candidates).candidate == 0);
}

TEST_CASE("Orders rank by what they are named for") {
  const OrderFacts early{1, 0, 500, 100};
  const OrderFacts late{2, 0, 450, 10};
  const OrderFacts open{3, 5, no_deadline, 1000};
  const OrderFacts open_short{4, 0, no_deadline, 10};
  CHECK(make_fifo_order()->rank(early) < make_fifo_order()->rank(open));
  CHECK(make_priority_order()->rank(open) < make_priority_order()->rank(early));
  CHECK(make_edf_order()->rank(late) < make_edf_order()->rank(early));
  CHECK(make_edf_order()->rank(early) < make_edf_order()->rank(open));
  CHECK(make_rank_order()->rank(early) < make_rank_order()->rank(late));
  // 500 - 100 is before 450 - 10.
  CHECK(make_laxity_order()->rank(early) < make_laxity_order()->rank(late));
  CHECK(make_laxity_order()->rank(late) < make_laxity_order()->rank(open_short));
  CHECK(make_laxity_order()->rank(open) < make_laxity_order()->rank(early));
}

TEST_CASE("An unknown policy is refused with the names of those there are") {
  for (const char* name : {"eager", "prio", "edf", "dmda", "heft", "learned"})
    CHECK(make_policy(name));
  const auto refused = make_policy("best");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == Code::invalid_argument);
  CHECK(refused.error().message() ==
        "there is no policy 'best'; choose eager, prio, edf, dmda, heft or learned");
}

}  // namespace aios::scheduler
