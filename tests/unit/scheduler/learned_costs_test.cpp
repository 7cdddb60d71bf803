#include "services/scheduler/costs/learned_costs.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "services/scheduler/core/parts/limits.hpp"
#include "services/scheduler/policy/placement.hpp"

namespace aios::scheduler {
namespace {

constexpr DeviceId cpu = 0;
constexpr DeviceId gpu = 1;

/// Times around a true one, log-normal.
class Noise {
 public:
  explicit Noise(double sd, std::uint64_t seed = 1) : sd_(sd), random_(seed) {}
  double of(double time_ns) { return time_ns * std::exp(sd_ * normal_(random_)); }

 private:
  double sd_;
  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
};

class Rig {
 public:
  Rig() {
    costs.set_device(cpu, {"cpu0", 1});
    costs.set_device(gpu, {"gpu0", 2});
    codelet = costs.open_codelet({7, 1000, "work"}, {});
  }
  WorkId size(double bytes, double blocks = 1) {
    return costs.work(codelet, {static_cast<std::uint64_t>(bytes * 1000 + blocks), bytes, blocks});
  }
  void learn(WorkId work, DeviceId device, double time_ns, double memory = 0) {
    costs.learn({work, device, time_ns, memory});
  }
  Estimate of(WorkId work, DeviceId device) { return costs.estimate(work, device); }

  LearnedCosts costs;
  CodeletId codelet = 0;
};

bool is_about(double value, double expected, double share) {
  return std::abs(value - expected) <= share * expected;
}

}  // namespace

TEST_CASE("What was learned on one device is a hint for another, also if that was asked before") {
  Rig rig;
  const WorkId work = rig.size(4096);
  REQUIRE(rig.of(work, gpu).level == Level::none);
  rig.learn(work, cpu, 5e6);
  CHECK(rig.of(work, gpu).level == Level::hint);
  CHECK(is_about(rig.of(work, gpu).time.mean, 5e6, 0.01));
}

TEST_CASE("Before anything is known an estimate says so") {
  Rig rig;
  const Estimate e = rig.of(rig.size(4096), cpu);
  CHECK(e.level == Level::none);
  CHECK(e.samples == 0);
  CHECK(e.time.mean > 0);
  CHECK(e.memory.p95 == 0);
}

TEST_CASE("An application's hint stands until something was measured") {
  Rig rig;
  const CodeletId hinted = rig.costs.open_codelet({8, 1000, "hinted"}, {0, 5e6});
  const WorkId work = rig.costs.work(hinted, {1, 4096, 1});
  CHECK(rig.of(work, cpu).level == Level::hint);
  CHECK(is_about(rig.of(work, cpu).time.mean, 5e6, 0.01));
}

TEST_CASE("A roofline over operations and bytes is the first word where devices know their speed") {
  LearnedCosts costs;
  costs.set_device(cpu, {"cpu0", 1, 1e9, 1e10, 0});
  costs.set_device(gpu, {"gpu0", 2, 1e11, 1e10, 5000});
  const CodeletId codelet = costs.open_codelet({7, 1000, "work"}, {1e6, 0});
  const WorkId work = costs.work(codelet, {1, 1e6, 100});
  CHECK(is_about(costs.estimate(work, cpu).time.mean, 1e8, 0.01));
  CHECK(is_about(costs.estimate(work, gpu).time.mean, 1e6 + 5000, 0.01));
}

TEST_CASE("What ran on one device is the first guess for another") {
  Rig rig;
  const WorkId work = rig.size(4096);
  for (int i = 0; i < 5; ++i) rig.learn(work, cpu, 300'000);
  CHECK(rig.of(work, gpu).level == Level::hint);
  CHECK(is_about(rig.of(work, gpu).time.mean, 300'000, 0.05));
}

TEST_CASE(
    "What ran on a device of the same kind is the first guess, however much is known of others") {
  LearnedCosts costs;
  costs.set_device(0, {"cpu0", 1});
  costs.set_device(1, {"gpu1", 2});
  costs.set_device(2, {"cpu2", 4});
  const WorkId work = costs.work(costs.open_codelet({7, 1000, "work"}, {}), {1, 4096, 1});
  for (int i = 0; i < 8; ++i) costs.learn({work, 1, 300'000});
  CHECK(is_about(costs.estimate(work, 2).time.mean, 300'000, 0.05));
  for (int i = 0; i < 2; ++i) costs.learn({work, 0, 14e6});
  CHECK(costs.estimate(work, 2).level == Level::hint);
  CHECK(is_about(costs.estimate(work, 2).time.mean, 14e6, 0.05));
}

TEST_CASE("What probes may take is a share of what was really placed elsewhere") {
  Rig rig;
  const WorkId work = rig.size(4096);
  for (int i = 0; i < 20; ++i) rig.learn(work, cpu, 1e6);
  (void)rig.of(work, cpu);
  rig.costs.placed(work, cpu);
  rig.costs.placed(work, cpu);
  CHECK(rig.of(work, gpu).passed_over == 2);
  CHECK(is_about(rig.of(work, gpu).passed_over_ns, 2e6, 0.05));
  CHECK(rig.of(work, cpu).passed_over_ns == 0);
  rig.costs.placed(work, gpu);
  CHECK(rig.of(work, gpu).passed_over_ns == 0);
}

TEST_CASE("A size that ran elsewhere is carried over by how the devices differ") {
  Rig rig;
  for (int round = 0; round < 6; ++round)
    for (int i = 1; i <= 4; ++i) {
      rig.learn(rig.size(1000 * i), cpu, 1e6 * i);
      rig.learn(rig.size(1000 * i), gpu, 1e5 * i);
    }
  // Three times longer than its trend.
  const WorkId odd = rig.size(2500);
  for (int i = 0; i < 6; ++i) rig.learn(odd, cpu, 3 * 2.5e6);
  CHECK(rig.of(odd, gpu).level == Level::regression);
  CHECK(is_about(rig.of(odd, gpu).time.mean, 3 * 2.5e5, 0.35));
}

TEST_CASE("The first sample of a size counts only until the second") {
  Rig rig;
  const WorkId work = rig.size(4096);
  rig.learn(work, cpu, 90e6);
  for (int i = 0; i < 10; ++i) rig.learn(work, cpu, 1e6);
  CHECK(rig.of(work, cpu).level == Level::history);
  CHECK(is_about(rig.of(work, cpu).time.mean, 1e6, 0.05));
  CHECK(rig.of(work, cpu).samples == 10);
}

TEST_CASE("A size that was never seen is read off the trend over sizes") {
  Rig rig;
  Noise noise(0.05);
  for (int round = 0; round < 6; ++round)
    for (const double bytes : {1e3, 4e3, 2e4, 1e5, 4e5})
      rig.learn(rig.size(bytes), cpu, noise.of(50 * std::pow(bytes, 1.5)));
  const WorkId unseen = rig.size(5e4);
  CHECK(rig.of(unseen, cpu).level == Level::regression);
  CHECK(is_about(rig.of(unseen, cpu).time.mean, 50 * std::pow(5e4, 1.5), 0.15));
  CHECK(is_about(rig.of(rig.size(2e6), cpu).time.mean, 50 * std::pow(2e6, 1.5), 0.3));
}

TEST_CASE("A trend over few sizes does not run away") {
  Rig rig;
  for (const double bytes : {1000.0, 1010.0, 1020.0, 1030.0})
    rig.learn(rig.size(bytes), cpu, bytes * bytes * bytes);
  const double far = rig.of(rig.size(1e12), cpu).time.mean;
  CHECK(far <= 21 * 1030.0 * 1030 * 1030);
}

TEST_CASE("The history of a size speaks where it errs less than the trend, and only there") {
  Rig jumping;
  // Sizes have nothing to do with times.
  const double times[] = {1e6, 9e4, 5e7, 3e5};
  for (int round = 0; round < 20; ++round)
    for (int i = 0; i < 4; ++i) jumping.learn(jumping.size(1000 * (i + 1)), cpu, times[i]);
  for (int i = 0; i < 4; ++i) {
    const Estimate e = jumping.of(jumping.size(1000 * (i + 1)), cpu);
    CHECK(e.level == Level::history);
    CHECK(is_about(e.time.mean, times[i], 0.05));
  }
  Rig smooth;
  Noise noise(0.4);
  // Each size three times: the trend of all knows more than the few of one.
  for (int i = 1; i <= 60; ++i)
    for (int n = 0; n < 3; ++n) smooth.learn(smooth.size(1000 * i), cpu, noise.of(1e5 * i));
  int trends = 0;
  for (int i = 1; i <= 60; ++i)
    trends += smooth.of(smooth.size(1000 * i), cpu).level == Level::regression;
  CHECK(trends >= 45);
}

TEST_CASE("Of a hundred tasks 94 to 96 take at most their p95, whatever the noise") {
  for (const double sd : {0.05, 0.3, 0.8}) {
    Rig rig;
    Noise noise(sd);
    const WorkId work = rig.size(4096);
    int hits = 0;
    int asked = 0;
    for (int i = 0; i < 8000; ++i) {
      const double time = noise.of(1e6);
      if (rig.of(work, cpu).samples >= 50) {
        ++asked;
        hits += time <= rig.of(work, cpu).time.p95;
      }
      rig.learn(work, cpu, time);
    }
    const double coverage = static_cast<double>(hits) / asked;
    CHECK(coverage >= 0.94);
    CHECK(coverage <= 0.96);
  }
}

TEST_CASE("The p95 covers what is not log-normal, too") {
  Rig rig;
  std::mt19937_64 random(3);
  std::exponential_distribution<double> heavy(1);
  const WorkId work = rig.size(4096);
  int hits = 0;
  for (int i = 0; i < 8000; ++i) {
    const double time = 1e6 * (1 + heavy(random) * heavy(random));
    hits += i >= 50 && time <= rig.of(work, cpu).time.p95;
    rig.learn(work, cpu, time);
  }
  CHECK(hits / 7950.0 >= 0.94);
  CHECK(hits / 7950.0 <= 0.96);
}

TEST_CASE("Peak memory is learned as time is, and only where it was measured") {
  Rig rig;
  Noise noise(0.1);
  const WorkId work = rig.size(1 << 20);
  for (int i = 0; i < 40; ++i) rig.learn(work, gpu, 1e6, noise.of(3 << 20));
  const Estimate e = rig.of(work, gpu);
  CHECK(is_about(e.memory.mean, 3 << 20, 0.1));
  CHECK(e.memory.p95 > e.memory.mean * 1.05);
  CHECK(e.memory.p95 < e.memory.mean * 1.5);
  CHECK(rig.of(work, cpu).memory.p95 == 0);
}

TEST_CASE("One outlier moves an estimate little") {
  Rig rig;
  Noise noise(0.1);
  const WorkId work = rig.size(4096);
  for (int i = 0; i < 40; ++i) rig.learn(work, cpu, noise.of(1e6));
  rig.learn(work, cpu, 300e6);
  CHECK(is_about(rig.of(work, cpu).time.mean, 1e6, 0.2));
}

TEST_CASE("A device that slows by half is found out and learned again") {
  for (const double sd : {0.1, 0.3, 0.5}) {
    Rig rig;
    Noise noise(sd);
    const WorkId work = rig.size(4096);
    for (int i = 0; i < 200; ++i) rig.learn(work, cpu, noise.of(1e6));
    CHECK(is_about(rig.of(work, cpu).time.mean, 1e6, 0.3));
    for (int i = 0; i < 30; ++i) rig.learn(work, cpu, noise.of(2e6));
    std::uint32_t drifts = 0;
    rig.costs.for_each([&](const LearnedCosts::Row& row) { drifts = row.drifts; });
    CHECK(drifts >= 1);
    CHECK(is_about(rig.of(work, cpu).time.mean, 2e6, 0.35));
  }
}

TEST_CASE("What does not change is not taken for a change") {
  Rig rig;
  Noise noise(0.3);
  const WorkId work = rig.size(4096);
  for (int i = 0; i < 2000; ++i) rig.learn(work, cpu, noise.of(1e6));
  rig.costs.for_each([](const LearnedCosts::Row& row) { CHECK(row.drifts <= 2); });
}

TEST_CASE("A device believed 300 times too slow is found out within a bounded number of tasks") {
  Rig rig;
  Noise noise(0.1);
  const WorkId work = rig.size(4096);
  const auto placement = make_learned_placement();
  for (int i = 0; i < 200; ++i) {
    rig.learn(work, cpu, noise.of(1e6));
    rig.learn(work, gpu, noise.of(300 * 1e5));
  }
  REQUIRE(rig.of(work, gpu).time.mean > 10 * rig.of(work, cpu).time.mean);
  // In truth it is ten times faster than the other.
  int placed_there = 0;
  int tasks = 0;
  while (placed_there < 20 && tasks < 10'000) {
    ++tasks;
    const Estimate there = rig.of(work, gpu);
    const Estimate here = rig.of(work, cpu);
    Candidate candidates[2];
    candidates[0] = {cpu, 1, true};
    candidates[0].cost = &here;
    candidates[1] = {gpu, 1, true};
    candidates[1].cost = &there;
    const Choice choice = placement->place({}, candidates);
    const DeviceId device = candidates[choice.candidate].device;
    rig.costs.placed(work, device);
    rig.learn(work, device, noise.of(device == gpu ? 1e5 : 1e6));
    placed_there = device == gpu && choice.reason != Reason::probe ? placed_there + 1 : 0;
  }
  CHECK(tasks <= 2048 + 30);
  CHECK(is_about(rig.of(work, gpu).time.mean, 1e5, 0.3));
}

TEST_CASE("A device on which a codelet always fails gets few of its tasks, until one succeeds") {
  Rig rig;
  const WorkId work = rig.size(4096);
  const auto placement = make_learned_placement();
  const auto run = [&](int tasks, bool succeeds) {
    int there_in_all = 0;
    for (int i = 0; i < tasks; ++i) {
      const Estimate here = rig.of(work, cpu), there = rig.of(work, gpu);
      std::vector<Candidate> candidates{{cpu, 1}, {gpu, 1}};
      candidates[0].cost = &here;
      candidates[1].cost = &there;
      candidates[1].transfer_ns = 200'000;
      const DeviceId device =
          candidates[placement->place({0, 1'000'000'000}, candidates).candidate].device;
      rig.costs.placed(work, device);
      if (device == cpu || succeeds) rig.learn(work, device, device == cpu ? 1e6 : 1e5);
      if (device == gpu) ++there_in_all;
    }
    return there_in_all;
  };
  rig.learn(work, cpu, 1e6);
  CHECK(run(3, false) == 1);
  CHECK(run(64, false) == 0);
  CHECK(run(1, false) == 1);
  const int failed = run(10'000, false);
  CHECK(failed >= 4);
  CHECK(failed <= 12);
  // In the end it is no worse off than if it had always been as good.
  CHECK(run(2048 + 100, true) >= 90);
}

TEST_CASE("Codelets of another user, another module or another name know nothing of each other") {
  Rig rig;
  const WorkId work = rig.size(4096);
  for (int i = 0; i < 10; ++i) rig.learn(work, cpu, 5e6);
  for (const CodeletKey& key :
       {CodeletKey{7, 1001, "work"}, CodeletKey{8, 1000, "work"}, CodeletKey{7, 1000, "other"}}) {
    const CodeletId other = rig.costs.open_codelet(key, {});
    CHECK(rig.of(rig.costs.work(other, {4096 * 1000 + 1, 4096, 1}), cpu).level == Level::none);
  }
}

TEST_CASE("A codelet that was closed is remembered when it is opened again") {
  Rig rig;
  for (int i = 0; i < 10; ++i) rig.learn(rig.size(4096), cpu, 5e6);
  rig.costs.close_codelet(rig.codelet);
  rig.codelet = rig.costs.open_codelet({7, 1000, "work"}, {});
  CHECK(rig.of(rig.size(4096), cpu).level == Level::history);
}

TEST_CASE("Of too many codelets those unused for longest are forgotten, never one that is open") {
  Rig rig;
  for (int i = 0; i < 10; ++i) rig.learn(rig.size(4096), cpu, 5e6);
  for (std::uint32_t i = 0; i < max_learned_codelets + 10; ++i)
    rig.costs.close_codelet(rig.costs.open_codelet({100 + i, 1000, "work"}, {}));
  CHECK(rig.of(rig.size(4096), cpu).level == Level::history);
  const CodeletId last = rig.costs.open_codelet({100 + max_learned_codelets + 9, 1000, "work"}, {});
  CHECK(last < max_learned_codelets);
}

TEST_CASE("Of too many sizes those that are about equal are one") {
  Rig rig;
  for (std::uint32_t i = 0; i < 10 * max_learned_sizes; ++i)
    rig.learn(rig.size(1'000'000 + i), cpu, 5e6);
  int rows = 0;
  rig.costs.for_each([&](const LearnedCosts::Row&) { ++rows; });
  CHECK(rows <= static_cast<int>(max_learned_sizes) + 3);
}

TEST_CASE("A device that comes later is asked like the others") {
  Rig rig;
  const WorkId work = rig.size(4096);
  for (int i = 0; i < 5; ++i) rig.learn(work, cpu, 1e6);
  rig.costs.set_device(2, {"gpu1", 2});
  CHECK(rig.of(work, 2).level == Level::hint);
  rig.learn(work, 2, 1e5);
  rig.learn(work, 2, 1e5);
  CHECK(is_about(rig.of(work, 2).time.mean, 1e5, 0.1));
}

}  // namespace aios::scheduler
