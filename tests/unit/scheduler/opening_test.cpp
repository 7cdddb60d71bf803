// Contexts that are opened for tasks yet to come.
#include "tests/unit/scheduler/told_core.hpp"

namespace aios::scheduler {
namespace {

constexpr DeviceId processor = 0;
constexpr DeviceId gpu = 1;

/// A processor of four slots, and a GPU on which tasks take a twentieth but a context 400 ms to
/// open.
class Machine : public ToldCore {
 public:
  explicit Machine(std::uint32_t samples) : ToldCore(*make_policy("learned")) {
    add_device(processor, 4);
    add_device(gpu, 1);
    core.set_open_time(gpu, 400 * ms);
    tenant = *core.open_tenant(1, "job", 1000);
    REQUIRE(core.add_codelet(tenant, proto::Text<64>::from("work")));
    tell("work", processor, 20 * ms);
    tell("work", gpu, 1 * ms);
    costs->estimates[{"work", gpu}].samples = samples;
  }
  /// A chain of so many tasks; returns which of them was the first on the GPU, 0: none.
  std::uint64_t first_on_gpu(std::uint32_t count) {
    std::vector<TaskRecord> chain{task(1)};
    for (std::uint32_t tag = 2; tag <= count; ++tag) chain.push_back(task(tag, {tag - 1}));
    REQUIRE(core.submit(tenant, chain, now));
    run();
    for (std::uint64_t tag = 1; tag <= count; ++tag) {
      REQUIRE(running.contains(tag));
      if (on.at(tag) == gpu) return tag;
      end(tag, 20 * ms);
    }
    return 0;
  }

  using ToldCore::tell;
  TenantId tenant = 0;
};

}  // namespace

TEST_CASE(
    "A device that no single task would wait for is opened when all that are left gain by it") {
  // 19 ms are saved by each of those left: 800 ms by more than 42.
  CHECK(Machine(8).first_on_gpu(40) == 0);
  CHECK(Machine(8).first_on_gpu(60) == 2);
}

TEST_CASE("One task brings the module to a device, late, for all that are left") {
  const auto first_on_gpu = [](std::uint32_t count) {
    Machine m(8);
    m.core.set_open_time(gpu, 0);
    m.core.set_load_time(gpu, 400 * Machine::ms);
    return m.first_on_gpu(count);
  };
  CHECK(first_on_gpu(40) == 0);
  CHECK(first_on_gpu(60) == 2);
}

TEST_CASE("A module that takes nothing to load makes no task go where it is done later") {
  // A guess, and not yet passed over as often as a try needs.
  Machine m(0);
  m.tell("work", gpu, 30 * Machine::ms);
  m.costs->estimates[{"work", gpu}].level = Level::hint;
  m.core.set_load_time(gpu, 0);
  // Another's task has opened a context there.
  REQUIRE(m.core.add_codelet(m.tenant, proto::Text<64>::from("other")));
  m.tell("other", gpu, 20 * Machine::ms);
  TaskRecord other = task(1001);
  other.codelet = 1;
  other.device = gpu + 1;
  REQUIRE(m.core.submit(m.tenant, {&other, 1}, m.now));
  m.run();
  REQUIRE(m.on.at(1001) == gpu);
  m.end(1001);
  CHECK(m.first_on_gpu(2) == 0);
}

TEST_CASE("A device is not opened for what is left of other codelets") {
  Machine m(8);
  REQUIRE(m.core.add_codelet(m.tenant, proto::Text<64>::from("other")));
  m.tell("other", processor, 20 * Machine::ms);
  m.tell("other", gpu, 20 * Machine::ms);
  std::vector<TaskRecord> others;
  for (std::uint64_t tag = 1001; tag <= 1060; ++tag) {
    others.push_back(task(tag, {}, -1));
    others.back().codelet = 1;
    others.back().device = processor + 1;
  }
  REQUIRE(m.core.submit(m.tenant, others, m.now));
  CHECK(m.first_on_gpu(20) == 0);
}

namespace {
std::uint64_t first_on_gpu(Level level, std::uint32_t passed_over, std::uint32_t count,
                           double time_ms) {
  Machine m(level == Level::hint ? 0 : 1);
  Estimate& there = m.costs->estimates[{"work", gpu}];
  there.level = level;
  there.passed_over = passed_over;
  there.passed_over_ns = passed_over * 20.0 * Machine::ms;
  there.time = {time_ms * Machine::ms, time_ms * Machine::ms};
  return m.first_on_gpu(count);
}
}  // namespace

TEST_CASE("A device on which nothing like it ever ran is opened when a try has become affordable") {
  const auto first_on_gpu = [](std::uint32_t passed_over, std::uint32_t count, double guess = 1) {
    return scheduler::first_on_gpu(Level::hint, passed_over, count, guess);
  };
  // 3% of 20 ms for each time that it was passed over.
  CHECK(first_on_gpu(600, 60) == 0);
  CHECK(first_on_gpu(700, 60) == 2);
  // Too little is left to be done there; and it is believed to be far slower.
  CHECK(first_on_gpu(700, 30) == 0);
  CHECK(first_on_gpu(700, 60, 100) == 0);
}

TEST_CASE("A device that seemed slow is opened to try again, as rarely as others are tried again") {
  // As when the first run there was that of a library that had to be loaded.
  CHECK(first_on_gpu(Level::history, 2000, 60, 170) == 0);
  CHECK(first_on_gpu(Level::history, 2100, 60, 170) == 2);
  CHECK(first_on_gpu(Level::history, 2100, 30, 170) == 0);
}

}  // namespace aios::scheduler
