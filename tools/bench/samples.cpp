#include "tools/bench/samples.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "abi/runtime/time.hpp"

namespace aios::bench {

double ns_per_tick() {
  static const double ratio = [] {
    const std::uint64_t begin_ns = now_ns();
    const std::uint64_t begin = ticks();
    while (now_ns() - begin_ns < 20 * ns_per_ms) {
    }
    const std::uint64_t end = ticks();
    return static_cast<double>(now_ns() - begin_ns) / static_cast<double>(end - begin);
  }();
  return ratio;
}

void Quantiles::print() const {
  std::printf("%f %f %f %f\n", mean, p50, p99, p999);
}

Quantiles Samples::quantiles() {
  assert(!ticks_.empty());
  std::ranges::sort(ticks_);
  const auto at = [this](double share) {
    const double rank = share * static_cast<double>(size());
    const auto nearest = static_cast<std::size_t>(std::ceil(rank));
    const std::uint64_t value = ticks_[std::max<std::size_t>(nearest, 1) - 1];
    const auto equal = std::ranges::equal_range(ticks_, value);
    const auto middle_to = [value](std::uint64_t other) {
      return (static_cast<double>(value) + static_cast<double>(other)) / 2;
    };
    const double low = equal.begin() == ticks_.begin() ? static_cast<double>(value)
                                                       : middle_to(*std::prev(equal.begin()));
    const double high =
        equal.end() == ticks_.end() ? static_cast<double>(value) : middle_to(*equal.end());
    const double before = rank - static_cast<double>(equal.begin() - ticks_.begin());
    const double within = std::clamp(before / static_cast<double>(equal.size()), 0.0, 1.0);
    return (low + within * (high - low)) * ns_per_tick();
  };
  const double sum = std::accumulate(ticks_.begin(), ticks_.end(), 0.0);
  return {sum / static_cast<double>(size()) * ns_per_tick(), at(0.5), at(0.99), at(0.999)};
}

double median(std::vector<double> values) {
  assert(!values.empty());
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

RatioOfRounds ratio_of_rounds(const std::vector<double>& figures,
                              const std::vector<double>& yardsticks) {
  assert(figures.size() == yardsticks.size());
  std::vector<double> ratios;
  for (std::size_t i = 0; i < figures.size(); ++i) ratios.push_back(figures[i] / yardsticks[i]);
  return {median(ratios), std::ranges::min(ratios), std::ranges::max(ratios)};
}

namespace {

std::vector<double> column(const Rounds& rounds, double Quantiles::*which) {
  std::vector<double> values;
  for (const Quantiles& round : rounds.all) values.push_back(round.*which);
  return values;
}

}  // namespace

Quantiles Rounds::medians() const {
  return {median(column(*this, &Quantiles::mean)), median(column(*this, &Quantiles::p50)),
          median(column(*this, &Quantiles::p99)), median(column(*this, &Quantiles::p999))};
}

std::vector<double> Rounds::p50() const {
  return column(*this, &Quantiles::p50);
}

}  // namespace aios::bench
