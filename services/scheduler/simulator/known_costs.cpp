#include "services/scheduler/simulator/known_costs.hpp"

#include <algorithm>

namespace aios::scheduler::sim {

ToldCosts ToldCosts::exact(const Realisation& run) {
  return told(run, &Realisation::true_ns);
}

ToldCosts ToldCosts::expected(const Realisation& run) {
  return told(run, &Realisation::expected_ns);
}

ToldCosts ToldCosts::told(const Realisation& run,
                          double (Realisation::*time_ns)(std::uint32_t, DeviceId) const) {
  ToldCosts costs;
  costs.devices_ = run.platform().devices.size();
  for (std::uint32_t t = 0; t < run.graph().tasks.size(); ++t)
    for (DeviceId d = 0; d < costs.devices_; ++d) {
      Estimate estimate;
      estimate.time = {(run.*time_ns)(t, d), (run.*time_ns)(t, d)};
      estimate.level = Level::exact;
      costs.estimates_.push_back(estimate);
    }
  return costs;
}

ToldCosts ToldCosts::mean_by_type(const Realisation& run) {
  ToldCosts costs;
  costs.devices_ = run.platform().devices.size();
  const std::vector<SimTask>& tasks = run.graph().tasks;
  std::vector<double> sums(run.graph().types.size() * costs.devices_);
  std::vector<double> counts(sums.size());
  for (std::uint32_t t = 0; t < tasks.size(); ++t)
    for (DeviceId d = 0; d < costs.devices_; ++d) {
      if (run.expected_ns(t, d) < 0) continue;
      ++counts[tasks[t].type * costs.devices_ + d];
      sums[tasks[t].type * costs.devices_ + d] += run.expected_ns(t, d);
    }
  for (const SimTask& task : tasks)
    for (DeviceId d = 0; d < costs.devices_; ++d) {
      Estimate estimate;
      const std::size_t at = task.type * costs.devices_ + d;
      const double mean = sums[at] / std::max(counts[at], 1.0);
      estimate.time = {mean, mean};
      estimate.level = Level::hint;
      costs.estimates_.push_back(estimate);
    }
  return costs;
}

}  // namespace aios::scheduler::sim
