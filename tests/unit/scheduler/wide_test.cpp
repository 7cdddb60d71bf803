// Tasks with many blocks, which the threads of a processor share out.
#include <random>

#include "services/scheduler/core/parts/share_out.hpp"
#include "services/scheduler/core/parts/timeline.hpp"
#include "tests/unit/scheduler/told_core.hpp"

namespace aios::scheduler {
namespace {

constexpr DeviceId processor = 0;
constexpr DeviceId gpu = 1;
constexpr std::uint32_t slots = 4;

/// A processor of four slots, on which every task takes 20 ms when it has the threads that it can
/// keep busy for itself, and a GPU.
class Machine : public ToldCore {
 public:
  explicit Machine(std::string_view policy = "learned") : ToldCore(*make_policy(policy)) {
    add_device(processor, slots);
    core.all_devices_known();
    tell("work", processor, 20 * ms);
    tenant = open(1000);
  }
  void add_gpu(std::uint64_t takes_ns) {
    add_device(gpu, 1);
    tell("work", gpu, takes_ns);
  }
  TenantId open(std::uint32_t user) {
    const TenantId id = *core.open_tenant(user, "job", user);
    REQUIRE(core.add_codelet(id, proto::Text<64>::from("work")));
    return id;
  }
  static TaskRecord of_blocks(std::uint32_t blocks, std::uint64_t tag) {
    TaskRecord record = task(tag);
    record.grid[1] = blocks;
    return record;
  }
  void submit(std::uint32_t count, std::uint32_t blocks, std::uint64_t first_tag = 1) {
    std::vector<TaskRecord> records;
    for (std::uint32_t i = 0; i < count; ++i) records.push_back(of_blocks(blocks, first_tag + i));
    REQUIRE(core.submit(tenant, records, now));
    run();
  }

  TenantId tenant = 0;
};

std::uint64_t begin_of(Timeline& timeline, std::uint32_t width, double takes_ns) {
  timeline.begin_plan(1000);
  return timeline.free_ns(width, takes_ns);
}

}  // namespace

TEST_CASE("A task is as wide as all of its rounds need") {
  CHECK(width_of(1, 16) == 1);
  CHECK(width_of(3, 16) == 3);
  CHECK(width_of(16, 16) == 16);
  CHECK(width_of(17, 16) == 9);
  CHECK(width_of(1 << 20, 16) == 16);
  CHECK(width_of(1 << 20, 1) == 1);
  CHECK(width_of(0, 16) == 1);
}

TEST_CASE("What is shared out ends on all threads together, but on those that are busy longer") {
  const double free_ns[] = {100, 140, 900};
  const auto out = [&](std::size_t width, double takes_ns) {
    return share_out(width, takes_ns, [&](std::size_t i) { return free_ns[i]; });
  };
  CHECK(out(1, 10).end_ns == 110);
  CHECK(out(1, 10).threads == 1);
  // 120 of work on two threads, of which one begins 40 later.
  CHECK(out(2, 60).end_ns == 180);
  CHECK(out(2, 60).threads == 2);
  CHECK(out(3, 40).end_ns == 180);
  CHECK(out(3, 40).threads == 2);
  CHECK(out(2, 10).end_ns == 120);
  CHECK(out(2, 10).threads == 1);
}

TEST_CASE("In a timeline a wide task takes the time of all its slots") {
  Timeline timeline;
  timeline.set_slots(4);
  CHECK(begin_of(timeline, 4, 100) == 1000);
  timeline.started(1, 1000, 1100, 4);
  CHECK(begin_of(timeline, 1, 100) == 1100);
  CHECK(begin_of(timeline, 4, 100) == 1100);
  timeline.started(2, 1000, 1200, 4);
  CHECK(begin_of(timeline, 4, 100) == 1200);
  timeline.left(1);
  timeline.left(2);
  timeline.started(3, 1000, 1400, 1);
  // 400 of work on the three that are free.
  CHECK(begin_of(timeline, 4, 100) == 1033);
  timeline.begin_plan(1000);
  timeline.plan(100, 4);
  CHECK(timeline.free_ns() == 1133);
  timeline.plan(10);
  timeline.plan(10);
  timeline.plan(10);
  CHECK(timeline.free_ns() == 1143);
  timeline.left(3);
  timeline.begin_plan(1000);
  timeline.plan(100, 2);
  CHECK(timeline.free_ns() == 1000);
  CHECK(timeline.free_ns(2, 100) == 1000);
  CHECK(timeline.free_ns(4, 100) == 1050);
}

TEST_CASE("A plan of wide and narrow tasks is that of slots that are sorted anew each time") {
  std::mt19937 random(7);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  for (int plans = 0; plans < 50; ++plans) {
    constexpr std::uint64_t now_ns = 1'000'000;
    const std::uint32_t count = 1 + below(12);
    Timeline timeline;
    timeline.set_slots(count);
    std::vector<std::uint64_t> free_ns(count, now_ns);
    for (std::uint32_t key = 0; key < count; key += 1 + below(3)) {
      free_ns[key] += below(1000);
      timeline.started(key, now_ns, free_ns[key]);
    }
    timeline.begin_plan(now_ns);
    for (int tasks = 0; tasks < 40; ++tasks) {
      std::ranges::sort(free_ns);
      const std::uint32_t width = 1 + below(count);
      const std::uint64_t takes_ns = 1 + below(1000);
      const SharedOut out = share_out(width, static_cast<double>(takes_ns),
                                      [&](std::size_t i) { return free_ns[i] - now_ns; });
      const std::uint64_t end_ns = now_ns + static_cast<std::uint64_t>(out.end_ns);
      CHECK(timeline.free_ns() == free_ns.front());
      CHECK(timeline.free_ns(width, static_cast<double>(takes_ns)) ==
            std::max(free_ns.front(), end_ns - takes_ns));
      timeline.plan(takes_ns, width);
      std::fill_n(free_ns.begin(), out.threads, end_ns);
    }
  }
}

TEST_CASE("Of wide tasks one more is begun than keeps all threads busy, of narrow ones none") {
  Machine wide;
  wide.submit(6, 64);
  CHECK(wide.running.size() == 2);
  wide.end(1, 20 * Machine::ms);
  CHECK(wide.running.size() == 2);
  Machine half;
  half.submit(6, 2);
  CHECK(half.running.size() == 4);
  Machine narrow;
  narrow.submit(6, 1);
  CHECK(narrow.running.size() == 4);
}

TEST_CASE("Who waits for a processor is not passed by those behind when one more can be begun") {
  Machine m;
  // Another device that could be opened, so that the next is looked at though it cannot start.
  m.add_gpu(1000 * Machine::ms);
  m.core.set_open_time(gpu, 1'000'000 * Machine::ms);
  m.submit(6, 64);
  REQUIRE(m.running.size() == 2);
  m.end(1, 20 * Machine::ms);
  CHECK(m.running.contains(3));
  m.end(2, 20 * Machine::ms);
  CHECK(m.running.contains(4));
}

TEST_CASE("What one job has begun of wide tasks keeps no other job out") {
  Machine m;
  m.submit(4, 64);
  REQUIRE(m.running.size() == 2);
  const TenantId other = m.open(1001);
  std::vector<TaskRecord> narrow{task(101), task(102), task(103)};
  REQUIRE(m.core.submit(other, narrow, m.now));
  m.run();
  CHECK(m.running.contains(101));
  CHECK(m.running.contains(102));
}

TEST_CASE("A brief task with many blocks has one thread, and is learned as it was before") {
  Machine m;
  const auto end_all = [&](std::uint64_t took_ns, std::uint64_t busy_ns) {
    while (!m.running.empty()) {
      const std::uint64_t tag = m.running.begin()->first;
      Core::RunReply reply{};
      reply.start_ns = m.now;
      reply.end_ns = m.now += took_ns;
      reply.busy_ns = busy_ns;
      m.core.task_answered(m.running.at(tag), reply);
      m.running.erase(tag);
      m.run();
    }
  };
  m.submit(8, 64);
  // 100 us on four threads, of which others have half; in a batch 200 us.
  end_all(100'000, 200'000);
  CHECK(m.costs->learned.back().time_ns == 50'000);
  m.submit(1, 64, 101);
  REQUIRE(m.core.find(m.running.at(101))->brief);
  end_all(200'000, 0);
  CHECK(m.costs->learned.back().time_ns == 50'000);
}

TEST_CASE("Members of a gang take the slots that their blocks do") {
  Machine m;
  m.add_gpu(30 * Machine::ms);
  std::vector<TaskRecord> members;
  for (const std::uint64_t tag : {1, 2}) {
    TaskRecord& member = members.emplace_back(Machine::of_blocks(64, tag));
    member.flags |= proto::scheduler::task_flag::gang;
    member.gang = 1;
    member.gang_size = 2;
    member.device = processor + 1;
  }
  REQUIRE(m.core.submit(m.tenant, members, m.now));
  m.run();
  REQUIRE(m.running.size() == 2);
  // All threads are theirs for 20 ms, so that the next would be done there at 40.
  m.submit(1, 1, 3);
  CHECK(m.on.at(3) == gpu);
}

TEST_CASE("A narrow task has its turn among wide ones") {
  Machine m("eager");
  m.submit(3, 64);
  m.submit(1, 1, 11);
  m.submit(3, 64, 21);
  CHECK_FALSE(m.running.contains(11));
  m.end(1);
  m.end(2);
  CHECK(m.running.contains(3));
  CHECK(m.running.contains(11));
}

TEST_CASE("What is learned of a wide task is what it would take alone") {
  Machine m;
  m.submit(1, 64);
  const auto learned_of = [&](std::uint64_t busy_ns) {
    Core::RunReply reply{};
    reply.start_ns = m.now;
    reply.end_ns = m.now + 20 * Machine::ms;
    reply.busy_ns = busy_ns;
    m.core.task_answered(m.running.at(1), reply);
    return m.costs->learned.back().time_ns;
  };
  // Of four threads for 20 ms others had half.
  CHECK(learned_of(40 * Machine::ms) == 10 * Machine::ms);
  CHECK(m.core.devices()[processor].busy_ns == 40 * Machine::ms);
}

TEST_CASE(
    "A context that says that its threads were busy for longer than there was time is not "
    "believed") {
  Machine m;
  m.submit(1, 2);
  Core::RunReply reply{};
  reply.start_ns = m.now;
  reply.end_ns = m.now + 20 * Machine::ms;
  reply.busy_ns = ~std::uint64_t{0};
  m.core.task_answered(m.running.at(1), reply);
  CHECK(m.costs->learned.back().time_ns == 20 * Machine::ms);
}

TEST_CASE("Wide tasks wait for one another, so the next goes to a device that is slower") {
  Machine wide;
  wide.add_gpu(30 * Machine::ms);
  wide.submit(3, 64);
  // The second would be done at 40 ms, the third there at 60.
  CHECK(wide.on.at(2) == gpu);
  CHECK(wide.on.at(3) == processor);
  Machine narrow;
  narrow.add_gpu(30 * Machine::ms);
  narrow.submit(3, 1);
  for (const std::uint64_t tag : {1, 2, 3}) CHECK(narrow.on.at(tag) == processor);
}

TEST_CASE("A deadline is not promised as if wide tasks ran side by side") {
  const auto verdict = [](std::uint32_t blocks) {
    Machine m;
    const auto graph = m.core.open_graph(m.tenant, m.now + 100 * Machine::ms, m.now);
    REQUIRE(graph);
    std::vector<TaskRecord> records;
    for (std::uint32_t i = 0; i < 8; ++i) records.push_back(Machine::of_blocks(blocks, i + 1));
    REQUIRE(m.core.submit(m.tenant, records, m.now, *graph));
    m.run();
    return static_cast<proto::scheduler::Verdict>(
        m.core.admit_graph(m.tenant, *graph, false, m.now)->verdict);
  };
  // 160 ms, or 40.
  CHECK(verdict(64) == proto::scheduler::Verdict::too_late);
  CHECK(verdict(1) == proto::scheduler::Verdict::accepted);
}

TEST_CASE("A user pays for all threads that a task holds") {
  Machine m;
  const TenantId other = m.open(1001);
  m.submit(40, 64);
  std::vector<TaskRecord> narrow;
  for (std::uint32_t i = 0; i < 40; ++i) narrow.push_back(task(101 + i));
  REQUIRE(m.core.submit(other, narrow, m.now));
  m.run();
  // In each 20 ms one wide task ends, and as many narrow ones as were begun before.
  std::uint32_t ended_wide = 0, ended_narrow = 0;
  for (int round = 0; round < 40 && ended_narrow < 24; ++round) {
    const auto running = m.running;
    bool first = true;
    for (const auto& [tag, ref] : running) {
      if (tag > 100) ++ended_narrow;
      if (tag <= 100 && !std::exchange(first, false)) continue;
      if (tag <= 100) ++ended_wide;
      m.end(tag, tag > 100 ? 0 : 20 * Machine::ms);
    }
  }
  // Four narrow ones for each wide one.
  CHECK(ended_narrow >= 24);
  CHECK(ended_wide >= 4);
  CHECK(ended_wide <= 12);
}

}  // namespace aios::scheduler
