#include "services/scheduler/trainer/training.hpp"

#include <algorithm>
#include <cmath>

#include "abi/runtime/log.hpp"

namespace aios::scheduler::trainer {
namespace {

/// An outlier counts as a factor of seven, here as for the regression.
constexpr float most_residual = 2;
/// A factor of 160,000: worse is not told apart.
constexpr float most_log_share = 12;
/// Two percent: what varies less is known well enough.
constexpr float least_deviation = 0.02F;
constexpr double sure = 1.645;  ///< standard errors: 95%, one-sided
constexpr double doubt = 0.1;   ///< of the slopes: as if so many runs had shown none

float median(std::vector<float> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

/// As the running errors count it (cost_models.cpp).
float error_of(float predicted, const Judged& run) {
  return std::min(std::abs(predicted - run.actual), most_residual);
}

/// By how much of what it took it was wrong.
float share_of(float predicted, const Judged& run) {
  return std::abs(std::exp(std::clamp(predicted - run.actual, -most_log_share, most_log_share)) -
                  1);
}

bool varies(std::span<const FirstRun> runs) {
  const FirstRun& first = runs.front();
  const bool sizes = std::ranges::any_of(
      runs, [&](const FirstRun& run) { return run.features != first.features; });
  double sum = 0, squares = 0;
  for (const FirstRun& run : runs) sum += run.y - first.y;
  const double average = sum / static_cast<double>(runs.size());
  for (const FirstRun& run : runs) squares += std::pow(run.y - first.y - average, 2);
  return sizes && squares / static_cast<double>(runs.size()) > least_deviation * least_deviation;
}

/// Solves a small symmetric positive system in place; the answer is in `b`.
void solve(double (&a)[3][3], double (&b)[3]) {
  for (int i = 0; i < 3; ++i)
    for (int k = i + 1; k < 3; ++k) {
      const double factor = a[k][i] / a[i][i];
      for (int c = i; c < 3; ++c) a[k][c] -= factor * a[i][c];
      b[k] -= factor * b[i];
    }
  for (int i = 2; i >= 0; --i) {
    for (int c = i + 1; c < 3; ++c) b[i] -= a[i][c] * b[c];
    b[i] /= a[i][i];
  }
}

Result<BoostedTrees> fit(std::span<const FirstRun> runs, Booster& booster,
                         const std::function<bool()>& stop) {
  BoostedTrees::Parts parts;
  parts.line = fit_line(runs);
  const auto [low, high] = std::ranges::minmax(runs, {}, &FirstRun::y);
  parts.lowest = low.y;
  parts.highest = high.y;
  std::vector<TreeFeatures> rows;
  std::vector<float> margins, labels;
  for (const FirstRun& run : runs) {
    const float margin = line_at(parts.line, run.features);
    rows.push_back(run.features);
    margins.push_back(margin);
    labels.push_back(margin + std::clamp(run.y - margin, -most_residual, most_residual));
  }
  Booster::Forest forest = TRY(booster.fit(rows, margins, labels, stop));
  parts.roots = std::move(forest.roots);
  parts.nodes = std::move(forest.nodes);
  return BoostedTrees::create(std::move(parts));
}

}  // namespace

std::array<float, 3> fit_line(std::span<const FirstRun> runs) {
  const double n = static_cast<double>(runs.size());
  double center[3] = {};
  for (const FirstRun& run : runs) {
    center[0] += run.y / n;
    center[1] += run.features[0] / n;
    center[2] += run.features[1] / n;
  }
  double a[3][3] = {{n, 0, 0}, {0, doubt, 0}, {0, 0, doubt}};
  double b[3] = {};
  for (const FirstRun& run : runs) {
    const double x[3] = {0, run.features[0] - center[1], run.features[1] - center[2]};
    for (int i = 1; i < 3; ++i) {
      b[i] += x[i] * (run.y - center[0]);
      for (int k = 1; k < 3; ++k) a[i][k] += x[i] * x[k];
    }
  }
  solve(a, b);
  return {static_cast<float>(center[0] - b[1] * center[1] - b[2] * center[2]),
          static_cast<float>(b[1]), static_cast<float>(b[2])};
}

TreesReport judge(std::span<const Judged> runs) {
  std::vector<float> trees_shares, told_shares;
  double trees = 0, told = 0, squares = 0;
  for (const Judged& run : runs) {
    trees_shares.push_back(share_of(run.trees, run));
    told_shares.push_back(share_of(run.told, run));
    trees += error_of(run.trees, run);
    told += error_of(run.told, run);
    squares += std::pow(error_of(run.told, run) - error_of(run.trees, run), 2);
  }
  const double n = static_cast<double>(runs.size());
  const double gain = (told - trees) / n;
  const double variance = std::max(squares / n - gain * gain, 0.0) * n / (n - 1);
  TreesReport report;
  report.held_out = static_cast<std::uint32_t>(runs.size());
  report.trees_mdape = median(std::move(trees_shares));
  report.told_mdape = median(std::move(told_shares));
  report.trees_error = static_cast<float>(trees / n);
  report.told_error = static_cast<float>(told / n);
  const bool better =
      gain > sure * std::sqrt(variance / n) && report.trees_mdape < report.told_mdape;
  report.verdict = better ? TreesVerdict::promoted : TreesVerdict::no_better;
  return report;
}

TrainedKey train(const KeyRuns& key, Booster& booster, const std::function<bool()>& stop) {
  TrainedKey out{key.key, {}, nullptr};
  const std::span<const FirstRun> all = key.runs;
  const std::size_t held = std::max(least_held_out, all.size() / 4);
  out.report.trained = static_cast<std::uint32_t>(all.size());
  if (all.size() < least_trained + held) return out;
  const std::span<const FirstRun> early = all.first(all.size() - held);
  if (!varies(early)) {
    out.report.verdict = TreesVerdict::no_variation;
    return out;
  }
  const Result<BoostedTrees> trees = fit(early, booster, stop);
  if (!trees) {
    const bool stopped = trees.error().code() == Code::cancelled;
    if (!stopped)
      log_line("no trees for " + key.key.codelet.function + ": " + trees.error().to_string());
    out.report.verdict = stopped ? TreesVerdict::out_of_time : TreesVerdict::failed;
    return out;
  }
  std::vector<Judged> judged;
  for (const FirstRun& run : all.last(held))
    judged.push_back({trees->predict(run.features), run.told, run.y});
  out.report = judge(judged);
  out.report.trained = static_cast<std::uint32_t>(early.size());
  if (out.report.verdict == TreesVerdict::promoted)
    out.trees = std::make_shared<const BoostedTrees>(*trees);
  return out;
}

}  // namespace aios::scheduler::trainer
