#include "services/scheduler/simulator/study.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "services/scheduler/simulator/known_costs.hpp"

namespace aios::scheduler::sim {
namespace {

constexpr std::uint32_t warm_from = 50;

std::optional<double> share(std::uint64_t part, std::uint64_t all) {
  if (all == 0) return std::nullopt;
  return static_cast<double>(part) / static_cast<double>(all);
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

void Accuracy::add(const Outcome& outcome) {
  for (const Prediction& p : outcome.predictions) {
    if (p.estimate.level == Level::none) continue;
    errors.push_back(std::abs(p.estimate.time.mean - p.actual_ns) / p.actual_ns);
    const bool covered = p.actual_ns <= p.estimate.time.p95;
    if (p.estimate.samples >= warm_from) {
      ++warm;
      warm_covered += covered;
    } else {
      ++cold;
      cold_covered += covered;
    }
  }
}

std::optional<double> Accuracy::warm_coverage() const {
  return share(warm_covered, warm);
}
std::optional<double> Accuracy::cold_coverage() const {
  return share(cold_covered, cold);
}
std::optional<double> Accuracy::mean_error() const {
  if (errors.empty()) return std::nullopt;
  return std::accumulate(errors.begin(), errors.end(), 0.0) / static_cast<double>(errors.size());
}
std::optional<double> Accuracy::median_error() const {
  if (errors.empty()) return std::nullopt;
  return median(errors);
}

Result<void> Study::learn_from(const Graph& graph, const Chances& chances) {
  RunOptions options;
  options.costs = &learned_;
  const auto run_on = [&](const Graph& earlier, const Platform& platform) -> Result<void> {
    const Realisation run = TRY(Realisation::draw(earlier, platform, chances));
    TRY(run_core(run, options));
    return {};
  };
  if (!platform_->is_recorded || &graph == graph_) return run_on(graph, *platform_);
  const Graph here = recorded_as(*graph_, graph);
  TRY(check_size(here));
  Platform platform = *platform_;
  // Where its types ran too.
  platform.recorded_means_s.merge(recorded_means_s(here));
  return run_on(here, platform);
}

Result<Outcome> Study::run(const Realisation& run, Method method, const std::string& policy,
                           std::vector<double> deadlines_ns) {
  RunOptions options;
  options.deadlines_ns = std::move(deadlines_ns);
  options.policy = policy;
  ToldCosts told = method == Method::oracle          ? ToldCosts::exact(run)
                   : method == Method::core_expected ? ToldCosts::expected(run)
                                                     : ToldCosts::mean_by_type(run);
  switch (method) {
    case Method::heft_true:
      return run_heft(run, true_times(run));
    case Method::heft_expected:
      return run_heft(run, expected_times(run));
    case Method::heft_mean:
      options.costs = &told;
      return run_heft(run, TRY(estimated_times(run, options)));
    case Method::heft_learned:
      options.costs = &learned_;
      return run_heft(run, TRY(estimated_times(run, options)));
    case Method::core_expected:
    case Method::oracle:
      options.policy = "learned";
      options.costs = &told;
      return run_core(run, options);
    case Method::core:
      break;
  }
  const bool learns = policy == "learned";
  const bool looks_ahead = TRY(make_policy(policy)).placement->looks_ahead();
  if (learns) options.costs = &learned_;
  if (looks_ahead && !learns) options.costs = &told;
  return run_core(run, options);
}

}  // namespace aios::scheduler::sim
