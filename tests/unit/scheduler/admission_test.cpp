#include "services/scheduler/core/parts/admission.hpp"

#include <doctest/doctest.h>

#include "services/scheduler/simulator/overload.hpp"

namespace aios::scheduler {

constexpr std::uint64_t ms = 1'000'000;

TEST_CASE("A graph whose p95 is before its deadline is accepted, the next one waits behind it") {
  Admission admission;
  const GraphDemand demand{25e6, 10e6, 55 * ms};
  CHECK(admission.ask(1, demand, 0).accepted);
  const Forecast second = admission.ask(2, demand, 0);
  CHECK_FALSE(second.accepted);
  CHECK_FALSE(second.harms_others);
  CHECK((second.finish_ns > 50 * ms && second.finish_ns < 52 * ms));
  CHECK(second.finish_p95_ns > demand.deadline_ns);
}

TEST_CASE("A critical path that is too long is refused however idle the devices are") {
  Admission admission;
  CHECK_FALSE(admission.ask(1, {2e6, 90e6, 60 * ms}, 0).accepted);
}

TEST_CASE("Work that is done makes room") {
  Admission admission;
  const GraphDemand demand{25e6, 10e6, 55 * ms};
  REQUIRE(admission.ask(1, demand, 0).accepted);
  REQUIRE_FALSE(admission.ask(2, demand, 0).accepted);
  admission.progressed(1, 22e6);
  CHECK(admission.ask(2, demand, 0).accepted);
}

TEST_CASE("A graph that would make an accepted one late is refused, saying so") {
  Admission admission;
  REQUIRE(admission.ask(1, {50e6, 5e6, 100 * ms}, 0).accepted);
  const Forecast urgent = admission.ask(2, {40e6, 4e6, 90 * ms}, 0);
  CHECK_FALSE(urgent.accepted);
  CHECK(urgent.harms_others);
}

TEST_CASE("A graph that was cancelled teaches nothing and leaves nothing") {
  Admission admission;
  REQUIRE(admission.ask(1, {50e6, 5e6, 100 * ms}, 0).accepted);
  admission.finished(1, 5000 * ms, true);
  CHECK(admission.ask(2, {50e6, 5e6, 100 * ms}, 0).accepted);
}

TEST_CASE("Predictions that were always too short are lengthened") {
  Admission admission;
  for (GraphId id = 0; id < 20; ++id) {
    const std::uint64_t now = id * 1000 * ms;
    REQUIRE(admission.ask(id, {50e6, 50e6, now + 500 * ms}, now).accepted);
    admission.finished(id, now + 100 * ms);
  }
  const std::uint64_t now = 100'000 * ms;
  const Forecast verdict = admission.ask(99, {50e6, 50e6, now + 500 * ms}, now);
  CHECK(verdict.finish_ns - now > 95 * ms);
  CHECK(verdict.finish_ns - now < 105 * ms);
}

TEST_CASE("Under overload accepted graphs are in time, and more work is done in time than by EDF") {
  for (const double load : {1.0, 1.5}) {
    double good[2] = {};
    std::uint32_t missed = 0;
    std::uint32_t accepted = 0;
    for (std::uint64_t seed = 1; seed <= 3; ++seed)
      for (const bool admission : {true, false}) {
        sim::Stream stream;
        stream.load = load;
        stream.seed = seed;
        stream.admission = admission;
        const auto outcome = sim::run_stream(stream);
        REQUIRE(outcome);
        good[admission] += outcome->goodput();
        if (!admission) continue;
        missed += outcome->missed;
        accepted += outcome->offered - outcome->rejected;
      }
    CHECK(good[true] > good[false]);
    CHECK(missed <= 0.06 * accepted);
  }
}

}  // namespace aios::scheduler
