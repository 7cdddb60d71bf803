#include "abi/lib/mapreduce/kmeans.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

namespace aios::mapreduce_client {

namespace {

constexpr std::uint64_t least_sample = 4096;
constexpr std::uint64_t sample_of_centre = 16;

/// SplitMix64, by Sebastiano Vigna: prng.di.unimi.it.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  /// In [0, 1), in steps of 2^-53.
  double unit() {
    state_ += 0x9e3779b97f4a7c15ull;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return static_cast<double>(z >> 11) * 0x1p-53;
  }

 private:
  std::uint64_t state_;
};

double squared_distance(const float* a, const float* b, std::uint32_t dimensions) {
  double sum = 0;
  for (std::uint32_t d = 0; d < dimensions; ++d) {
    const double off = static_cast<double>(a[d]) - static_cast<double>(b[d]);
    sum += off * off;
  }
  return sum;
}

/// The first place whose running sum of weights is beyond `target`, else the last that weighs.
std::size_t place_of(std::span<const double> weights, double target) {
  double sum = 0;
  std::size_t last = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] > 0) last = i;
    sum += weights[i];
    if (sum > target) return i;
  }
  return last;
}

std::string number_of(std::uint64_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

}  // namespace

std::uint64_t sample_count(std::uint64_t points, std::uint32_t centres) {
  return std::min(points, std::max(least_sample, sample_of_centre * centres));
}

std::uint64_t sample_point(std::uint64_t i, std::uint64_t samples, std::uint64_t points) {
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(i) * points / samples);
}

Result<void> check_centres(std::uint32_t centres, std::uint64_t points) {
  if (centres <= points) return {};
  return error(Code::invalid_argument,
               "k=" + std::to_string(centres) + ", but the input has only " +
                   number_of(points, "point") + "; choose k of at most that");
}

Result<std::vector<float>> first_centres(const PointView& points, std::uint64_t total,
                                         std::uint32_t centres, std::uint64_t seed) {
  const std::uint64_t samples = sample_count(total, centres);
  const auto sample = [&](std::uint64_t i) {
    return points.row(points.count == total ? sample_point(i, samples, total) : i);
  };
  std::vector<double> weights(samples, std::numeric_limits<double>::infinity());
  std::vector<float> chosen;
  Random random(seed);
  std::uint64_t next = std::min(
      static_cast<std::uint64_t>(random.unit() * static_cast<double>(samples)), samples - 1);
  while (true) {
    const float* centre = sample(next);
    chosen.insert(chosen.end(), centre, centre + points.dimensions);
    if (chosen.size() == static_cast<std::size_t>(centres) * points.dimensions) return chosen;
    double weight = 0;
    for (std::uint64_t i = 0; i < samples; ++i) {
      weights[i] = std::min(weights[i], squared_distance(sample(i), centre, points.dimensions));
      weight += weights[i];
    }
    if (weight == 0)
      return error(Code::invalid_argument,
                   "k=" + std::to_string(centres) + ", but there " +
                       (chosen.size() == points.dimensions ? "is" : "are") + " only " +
                       number_of(chosen.size() / points.dimensions, "different point") +
                       (samples == total ? " in the input"
                                         : " among the " + std::to_string(samples) +
                                               " from which the first centres are chosen") +
                       "; choose a smaller k");
    next = place_of(weights, random.unit() * weight);
  }
}

Result<std::vector<std::uint64_t>> points_of_centres(const ShareSums& shares, std::uint32_t centres,
                                                     std::uint64_t points) {
  std::vector<std::uint64_t> of(centres, 0);
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < shares.counts.size(); ++i) {
    of[i % centres] += shares.counts[i];
    all += shares.counts[i];
  }
  if (all != points)
    return error(Code::corrupt, "a device counted " + std::to_string(all) +
                                    " points where there are " + std::to_string(points));
  return of;
}

double move_centres(const ShareSums& shares, std::span<const std::uint64_t> points_of,
                    std::span<float> centres) {
  std::vector<double> sums(centres.size(), 0);
  for (std::size_t i = 0; i < shares.sums.size(); i += sums.size())
    for (std::size_t cell = 0; cell < sums.size(); ++cell) sums[cell] += shares.sums[i + cell];
  double farthest = 0;
  for (std::size_t centre = 0; centre < points_of.size(); ++centre) {
    if (points_of[centre] == 0) continue;
    double squared = 0;
    for (std::uint32_t d = 0; d < shares.dimensions; ++d) {
      const std::size_t cell = centre * shares.dimensions + d;
      const auto mean = static_cast<float>(sums[cell] / static_cast<double>(points_of[centre]));
      const double off = static_cast<double>(mean) - static_cast<double>(centres[cell]);
      squared += off * off;
      centres[cell] = mean;
    }
    farthest = std::max(farthest, std::sqrt(squared));
  }
  return farthest;
}

void append_centre(std::string& text, std::uint32_t centre, std::uint64_t points,
                   std::span<const float> at) {
  text += std::to_string(centre) + '\t' + std::to_string(points);
  char separator = '\t';
  for (const float coordinate : at) {
    char number[coordinate_bytes];
    const auto end = std::to_chars(number, number + sizeof number, coordinate);
    text += std::exchange(separator, ',');
    text.append(number, end.ptr);
  }
  text += '\n';
}

}  // namespace aios::mapreduce_client
