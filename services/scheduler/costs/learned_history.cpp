// What learned costs keep over restarts, and take over again.
#include <algorithm>
#include <cmath>

#include "services/scheduler/core/parts/limits.hpp"
#include "services/scheduler/costs/learned_costs.hpp"

namespace aios::scheduler {
namespace {

constexpr DeviceId not_here = ~DeviceId{0};

SavedError saved(const RunningError& error) {
  return {error.value(), error.samples()};
}

void restore(RunningError& error, const SavedError& saved) {
  error.restore(saved.value, static_cast<std::uint32_t>(
                                 std::min<std::uint64_t>(saved.samples, most_restored_samples)));
}

}  // namespace

std::string LearnedCosts::identity_of(DeviceId device) const {
  const DeviceFacts& facts = devices_[device];
  return facts.identity.empty() ? facts.name : facts.identity;
}

SavedTrend LearnedCosts::saved(const Trend& trend, std::uint32_t device, bool memory) {
  return {device,
          memory ? 1u : 0u,
          trend.regression.state(),
          scheduler::saved(trend.history_error),
          scheduler::saved(trend.regression_error),
          scheduler::saved(trend.prior_error),
          scheduler::saved(trend.trees_error),
          scheduler::saved(trend.told_error),
          trend.quantile.z()};
}

SavedSeries LearnedCosts::saved(const Series& series, std::uint32_t device, bool memory) {
  return {device,
          memory ? 1u : 0u,
          series.history.samples(),
          series.has_own_quantile ? 1u : 0u,
          series.history.mean(),
          series.history.variance(),
          scheduler::saved(series.history_error),
          scheduler::saved(series.regression_error),
          series.quantile.z(),
          series.first};
}

SavedCodelet LearnedCosts::saved(const Codelet& codelet) const {
  SavedCodelet out;
  out.key = codelet.key;
  std::ranges::copy(codelet.center, out.center);
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    const PerDevice& here = codelet.devices[d];
    if (here.time.regression.samples() > 0) out.trends.push_back(saved(here.time, d, false));
    if (here.memory.regression.samples() > 0) out.trends.push_back(saved(here.memory, d, true));
  }
  for (const auto& [place, id] : codelet.works) {
    const Work& work = works_[id];
    SavedSize size{place, work.features, {}};
    for (DeviceId d = 0; d < devices_.size(); ++d) {
      const Cell& cell = work.cells[d];
      if (cell.time.history.samples() > 0) size.series.push_back(saved(cell.time, d, false));
      if (cell.memory.history.samples() > 0) size.series.push_back(saved(cell.memory, d, true));
    }
    if (!size.series.empty()) out.sizes.push_back(std::move(size));
  }
  return out;
}

SavedCosts LearnedCosts::save(std::size_t most_bytes) const {
  SavedCosts out;
  for (DeviceId d = 0; d < devices_.size(); ++d) out.devices.push_back(identity_of(d));
  std::vector<const Codelet*> all;
  for (const Codelet& codelet : codelets_)
    if (codelet.last_use != 0 && codelet.key.module_hash != 0) all.push_back(&codelet);
  std::ranges::sort(all, std::greater{}, &Codelet::last_use);
  std::size_t bytes = 0;
  for (const Codelet* codelet : all) {
    if (out.codelets.size() == max_learned_codelets) break;
    SavedCodelet one = saved(*codelet);
    if (one.sizes.empty()) continue;
    bytes += bytes_of(one);
    if (bytes > most_bytes) break;
    out.codelets.push_back(std::move(one));
  }
  return out;
}

void LearnedCosts::restore(const SavedCosts& saved) {
  std::vector<DeviceId> devices;
  for (const std::string& identity : saved.devices) {
    DeviceId device = 0;
    while (device < devices_.size() && identity_of(device) != identity) ++device;
    devices.push_back(device < devices_.size() ? device : not_here);
  }
  // Used last last: as they were.
  for (std::size_t i = saved.codelets.size(); i-- > 0;) restore(saved.codelets[i], devices);
}

void LearnedCosts::restore(const SavedCodelet& saved, const std::vector<DeviceId>& devices) {
  const auto known = std::ranges::find_if(
      codelets_, [&](const Codelet& c) { return c.last_use != 0 && c.key == saved.key; });
  auto id = static_cast<CodeletId>(known - codelets_.begin());
  if (known == codelets_.end()) {
    if (codelets_.size() - free_codelets_.size() >= max_learned_codelets) return;
    id = open_codelet(saved.key, {});
    close_codelet(id);
  }
  Codelet& codelet = codelets_[id];
  if (!take_over_center(codelet, saved)) return;
  for (const SavedTrend& from : saved.trends) {
    if (devices[from.device] == not_here) continue;
    PerDevice& here = codelet.devices[devices[from.device]];
    Trend& trend = from.memory == 1 ? here.memory : here.time;
    if (trend.regression.samples() > 0) continue;
    Regression::State state = from.regression;
    state.samples = std::min(state.samples, most_restored_samples);
    trend.regression.restore(state);
    scheduler::restore(trend.history_error, from.history_error);
    scheduler::restore(trend.regression_error, from.regression_error);
    scheduler::restore(trend.prior_error, from.prior_error);
    scheduler::restore(trend.trees_error, from.trees_error);
    scheduler::restore(trend.told_error, from.told_error);
    trend.quantile.restore(from.z);
  }
  for (const SavedSize& size : saved.sizes) restore_size(id, size, devices);
  for (PerDevice& here : codelet.devices)
    if (++here.version == 0) here.version = 1;
}

/// What regressions are over is counted from a centre: theirs must be the codelet's. False: it has
/// learned from another one.
bool LearnedCosts::take_over_center(Codelet& codelet, const SavedCodelet& saved) {
  const auto has_learned = [](const PerDevice& d) {
    return d.time.regression.samples() + d.memory.regression.samples() > 0;
  };
  if (std::ranges::equal(codelet.center, saved.center)) return true;
  if (std::ranges::any_of(codelet.devices, has_learned)) return false;
  for (const auto& [place, id] : codelet.works)
    for (int i = 1; i < Regression::dimensions; ++i)
      works_[id].x[i] += codelet.center[i] - saved.center[i];
  std::ranges::copy(saved.center, codelet.center.begin());
  return true;
}

void LearnedCosts::restore_size(CodeletId id, const SavedSize& size,
                                const std::vector<DeviceId>& devices) {
  const Regression::Vector center = codelets_[id].center;
  const auto known = codelets_[id].works.find(size.place);
  if (known == codelets_[id].works.end() && codelets_[id].works.size() >= 2 * max_learned_sizes)
    return;
  const WorkId at =
      known != codelets_[id].works.end() ? known->second : add_work(id, size.place, size.features);
  Work& work = works_[at];
  codelets_[id].center = center;
  work.x = {1, std::log(std::max(size.features.bytes, 1.0)) - center[1],
            std::log(std::max(size.features.blocks, 1.0)) - center[2]};
  for (const SavedSeries& from : size.series) {
    if (devices[from.device] == not_here) continue;
    Cell& cell = work.cells[devices[from.device]];
    Series& series = from.memory == 1 ? cell.memory : cell.time;
    if (series.history.samples() > 0) continue;
    series.history.restore(from.mean, from.variance, std::min(from.samples, most_restored_samples));
    scheduler::restore(series.history_error, from.history_error);
    scheduler::restore(series.regression_error, from.regression_error);
    series.quantile.restore(from.z);
    series.has_own_quantile = from.has_own_quantile == 1;
    series.first = from.first;
    first_runs_ = std::max(first_runs_, from.first.order);
    PerDevice& here = codelets_[id].devices[devices[from.device]];
    if (from.first.order > 0) ++(from.memory == 1 ? here.memory : here.time).first_runs;
    cell.version = 0;
  }
}

}  // namespace aios::scheduler
