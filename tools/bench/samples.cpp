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
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(size())));
    return static_cast<double>(ticks_[std::max<std::size_t>(rank, 1) - 1]) * ns_per_tick();
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

double Rounds::lowest_p50() const {
  return std::ranges::min(column(*this, &Quantiles::p50));
}

double Rounds::highest_p50() const {
  return std::ranges::max(column(*this, &Quantiles::p50));
}

}  // namespace aios::bench
