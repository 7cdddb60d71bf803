// What is told of many samples.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "tools/bench/samples.hpp"

using namespace aios::bench;

namespace {

/// In ticks.
Quantiles quantiles_of(const std::vector<std::uint64_t>& ticks) {
  Samples samples(ticks.size());
  for (const std::uint64_t one : ticks) samples.add(one);
  Quantiles q = samples.quantiles();
  for (double* const value : {&q.mean, &q.p50, &q.p99, &q.p999}) *value /= ns_per_tick();
  return q;
}

}  // namespace

TEST_CASE("quantiles of samples that all differ lie between the samples beside them") {
  std::vector<std::uint64_t> ticks;
  for (std::uint64_t i = 1000; i > 0; --i) ticks.push_back(i * 10);
  const Quantiles q = quantiles_of(ticks);
  CHECK(q.mean == doctest::Approx(5005));
  CHECK(q.p50 == doctest::Approx(5005));
  CHECK(q.p99 == doctest::Approx(9905));
  CHECK(q.p999 == doctest::Approx(9995));
}

TEST_CASE("equal samples count as spread over a step of the clock") {
  std::vector<std::uint64_t> ticks(75, 100);
  ticks.insert(ticks.end(), 25, 110);
  ticks.insert(ticks.end(), 100, 90);
  // Half of all samples are 90, which reach to 95.
  CHECK(quantiles_of(ticks).p50 == doctest::Approx(95));
  ticks.resize(150);
  // 75 of 100, 25 of 110, 50 of 90: the middle one is a third into those of 100.
  CHECK(quantiles_of(ticks).p50 == doctest::Approx(95 + 10 / 3.0));
}

TEST_CASE("a single sample, and samples that are all equal, are what they are") {
  CHECK(quantiles_of({7}).p50 == doctest::Approx(7));
  const Quantiles q = quantiles_of({5, 5, 5, 5});
  CHECK(q.p50 == doctest::Approx(5));
  CHECK(q.p999 == doctest::Approx(5));
}

TEST_CASE("a ratio is the median of those of the rounds") {
  // The machine was twice as slow in one round.
  const RatioOfRounds ratio = ratio_of_rounds({10, 30, 11}, {10, 20, 10});
  CHECK(ratio.median == doctest::Approx(1.1));
  CHECK(ratio.lowest == doctest::Approx(1.0));
  CHECK(ratio.highest == doctest::Approx(1.5));
}
