// Times of many repetitions, and what is told of them.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace aios::bench {

/// A clock that costs a few nanoseconds, in ticks of its own: one is read for every sample, and a
/// call of the operating system's clock would be a good part of a message's way.
inline std::uint64_t ticks() {
#if defined(__x86_64__)
  return __rdtsc();
#else
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(t.tv_nsec);
#endif
}
/// Nanoseconds of a tick, measured once against CLOCK_MONOTONIC.
double ns_per_tick();

/// What one round of a case has measured, in nanoseconds.
struct Quantiles {
  double mean = 0;
  double p50 = 0;
  double p99 = 0;
  double p999 = 0;
  /// "mean p50 p99 p999" to standard output: how programs of other systems tell theirs.
  void print() const;
};

/// The samples of one round, in ticks.
class Samples {
 public:
  explicit Samples(std::size_t expected) { ticks_.reserve(expected); }
  void add(std::uint64_t ticks) { ticks_.push_back(ticks); }
  void add_all(const Samples& other) {
    ticks_.insert(ticks_.end(), other.ticks_.begin(), other.ticks_.end());
  }
  std::size_t size() const { return ticks_.size(); }
  /// At least one sample. A clock may move in steps of more than a tick, and then many samples are
  /// equal: they count as spread evenly over what lies nearer to their value than to those beside
  /// it, as in a median of grouped data.
  Quantiles quantiles();

 private:
  std::vector<std::uint64_t> ticks_;
};

/// The middle of the values, the mean of the two middle ones when they are even. At least one.
double median(std::vector<double> values);

/// How two cases stand to each other, by the rounds: what disturbed one of them in a round has
/// disturbed the other in that round, too.
struct RatioOfRounds {
  double median = 0;
  double lowest = 0;
  double highest = 0;
};
/// As many of the one as of the other, at least one.
RatioOfRounds ratio_of_rounds(const std::vector<double>& figures,
                              const std::vector<double>& yardsticks);

/// The rounds of a case.
struct Rounds {
  std::vector<Quantiles> all;
  /// The median over the rounds of each quantile.
  Quantiles medians() const;
  std::vector<double> p50() const;
};

}  // namespace aios::bench
