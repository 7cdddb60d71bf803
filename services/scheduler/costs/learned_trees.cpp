// What learned costs make of boosted trees: which runs there are to train from, and when trees
// speak.
#include <algorithm>
#include <cmath>

#include "services/scheduler/costs/learned_costs.hpp"

namespace aios::scheduler {
namespace {

/// The errors of a report count as so many runs, as what is restored does.
constexpr std::uint32_t seed_runs = most_restored_samples;
constexpr double sd_by_mean_error = 1.2533;  ///< of a normal distribution
constexpr double least_sd = 0.01;

/// More by a quarter, and by enough for it to matter.
std::uint32_t grown(std::uint32_t first_runs) {
  return first_runs + std::max(16u, first_runs / 4);
}

}  // namespace

/// Judged by the same runs: those of sizes that had never run.
bool LearnedCosts::trees_speak(const Trend& trend) {
  return trend.trees != nullptr && trend.trees_error.value() < trend.told_error.value();
}

/// They are asked once for each size.
float LearnedCosts::ask_trees(const Trend& trend, const Series& series, const Work& work) {
  if (series.asked != trend.trees_number) {
    series.trees_mean = trend.trees->predict(tree_features_of(work.features));
    series.asked = trend.trees_number;
  }
  return series.trees_mean;
}

LearnedCosts::Guess LearnedCosts::guess(const Codelet& codelet, const Work& work, DeviceId device,
                                        bool time) const {
  const Series& series = time ? work.cells[device].time : work.cells[device].memory;
  const Trend& trend = time ? codelet.devices[device].time : codelet.devices[device].memory;
  if (series.history.samples() > 0 || !trees_speak(trend))
    return guess_without_trees(codelet, work, device, time);
  const double error = trend.trees_error.value();
  return {Level::boosted, ask_trees(trend, series, work),
          std::max(error * sd_by_mean_error, least_sd), 0, error};
}

void LearnedCosts::saw_first(const Codelet& codelet, const Work& work, DeviceId device, bool time,
                             double y, Trend& trend, Series& series) {
  const double told = guess_without_trees(codelet, work, device, time).mean;
  series.first = {static_cast<float>(y), static_cast<float>(told), ++first_runs_};
  if (trend.trees != nullptr) {
    trend.trees_error.saw(std::abs(y - ask_trees(trend, series, work)));
    trend.told_error.saw(std::abs(y - told));
  }
  // A module without a hash is not known again.
  if (++trend.first_runs >= trend.train_at && codelet.key.module_hash != 0) training_due_ = true;
}

KeyRuns LearnedCosts::runs_of(const Codelet& codelet, DeviceId device, bool memory) const {
  KeyRuns out{{codelet.key, identity_of(device), memory}, {}};
  std::vector<std::pair<std::uint64_t, FirstRun>> runs;
  for (const auto& [place, id] : codelet.works) {
    const Work& work = works_[id];
    const SavedFirst& first =
        memory ? work.cells[device].memory.first : work.cells[device].time.first;
    if (first.order > 0)
      runs.push_back({first.order, {tree_features_of(work.features), first.y, first.told}});
  }
  std::ranges::sort(runs, {}, [](const auto& run) { return run.first; });
  for (std::size_t i = runs.size() - std::min(runs.size(), max_first_runs); i < runs.size(); ++i)
    out.runs.push_back(runs[i].second);
  return out;
}

std::vector<KeyRuns> LearnedCosts::take_training(std::size_t most_keys) {
  std::vector<KeyRuns> out;
  training_due_ = false;
  for (Codelet& codelet : codelets_) {
    if (codelet.last_use == 0 || codelet.key.module_hash == 0) continue;
    for (DeviceId d = 0; d < devices_.size(); ++d)
      for (const bool memory : {false, true}) {
        Trend& trend = memory ? codelet.devices[d].memory : codelet.devices[d].time;
        if (trend.first_runs < trend.train_at) continue;
        if (out.size() == most_keys) {
          training_due_ = true;
          return out;
        }
        trend.train_at = grown(trend.first_runs);
        out.push_back(runs_of(codelet, d, memory));
      }
  }
  return out;
}

/// Null: its codelet or device is not known.
LearnedCosts::Trend* LearnedCosts::find_trend(const TreesKey& key, PerDevice** here) {
  for (Codelet& codelet : codelets_) {
    if (codelet.last_use == 0 || codelet.key != key.codelet) continue;
    for (DeviceId d = 0; d < devices_.size(); ++d) {
      if (identity_of(d) != key.device) continue;
      PerDevice& found = codelet.devices[d];
      if (here != nullptr) *here = &found;
      return key.memory ? &found.memory : &found.time;
    }
  }
  return nullptr;
}

bool LearnedCosts::adopt(const TrainedKey& trained, bool is_new) {
  PerDevice* here = nullptr;
  Trend* trend = find_trend(trained.key, &here);
  if (trend == nullptr) return false;
  const TreesReport& report = trained.report;
  trend->train_at = std::max(trend->train_at, grown(report.trained + report.held_out));
  if (trend->trees == trained.trees && !is_new) return true;
  trend->trees = trained.trees;
  trend->trees_number = ++trees_made_;
  if (is_new || trend->trees_error.samples() == 0) {
    trend->trees_error.restore(report.trees_error, seed_runs);
    trend->told_error.restore(report.told_error, seed_runs);
  }
  // What was estimated is estimated anew.
  if (++here->version == 0) here->version = 1;
  return true;
}

LearnedCosts::TreesState LearnedCosts::trees_state(const TreesKey& key) {
  const Trend* trend = find_trend(key);
  if (trend == nullptr || trend->trees == nullptr) return {};
  const std::uint32_t runs = trend->trees_error.samples();
  return {trees_speak(*trend), runs - std::min(runs, seed_runs), trend->trees_error.value(),
          trend->told_error.value()};
}

}  // namespace aios::scheduler
