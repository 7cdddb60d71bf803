// What of k-means is not done on devices: where the centres begin, and where each step puts them.
// Pure: the same results wherever the rest was computed. services/mapreduce/jobs/README.md has it
// in words.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "abi/runtime/status.hpp"

namespace aios::mapreduce_client {

/// Points by rows.
struct PointView {
  const float* at;
  std::uint64_t count;
  std::uint32_t dimensions;

  const float* row(std::uint64_t i) const { return at + i * dimensions; }
};

/// invalid_argument: there are more centres than points.
Result<void> check_centres(std::uint32_t centres, std::uint64_t points);

/// k-means++ over a sample of the points, which are at least as many as `centres`. `points` are all
/// of the `total`, or only those that the sample consists of. invalid_argument: the sample has
/// fewer different points.
Result<std::vector<float>> first_centres(const PointView& points, std::uint64_t total,
                                         std::uint32_t centres, std::uint64_t seed);

/// The points that the sample consists of, evenly spread.
std::uint64_t sample_count(std::uint64_t points, std::uint32_t centres);
std::uint64_t sample_point(std::uint64_t i, std::uint64_t samples, std::uint64_t points);

/// What the shares of the points add up to, as kmeans_sum leaves it: sums[share][centre][dimension]
/// and counts[share][centre].
struct ShareSums {
  std::span<const float> sums;
  std::span<const std::uint32_t> counts;
  std::uint32_t dimensions;
};

/// Points of each centre. invalid_argument when they are not `points` in all.
Result<std::vector<std::uint64_t>> points_of_centres(const ShareSums& shares, std::uint32_t centres,
                                                     std::uint64_t points);

/// Moves every centre that has points to their mean; how far the one went that went farthest.
double move_centres(const ShareSums& shares, std::span<const std::uint64_t> points_of,
                    std::span<float> centres);

/// The output's line of a centre: its number, its points, and its coordinates, each as the shortest
/// text that is this number again.
void append_centre(std::string& text, std::uint32_t centre, std::uint64_t points,
                   std::span<const float> at);
/// More than one such line has for each coordinate, and for what precedes them.
inline constexpr std::size_t coordinate_bytes = 32, line_begin_bytes = 64;

}  // namespace aios::mapreduce_client
