#include "services/scheduler/costs/learned_costs.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>
#include <utility>

#include "services/scheduler/core/parts/limits.hpp"

namespace aios::scheduler {
namespace {

/// What a task takes of which nothing at all is known.
constexpr double unknown_time_ns = 1e6;
constexpr double unknown_sd = 2;  ///< a factor of seven
constexpr double hint_sd = 0.7;   ///< a factor of two
/// From so many samples on a model may speak, and a size judges by its own errors.
constexpr std::uint32_t regression_speaks_after = 3;
constexpr std::uint32_t own_judgement_after = 8;
constexpr double carry_over_sd = 0.15;  ///< besides the history's own, from another device
constexpr double most_log_variance = 1;

double log_of(double value) {
  return std::log(std::max(value, 1.0));
}

}  // namespace

void LearnedCosts::set_device(DeviceId device, const DeviceFacts& facts) {
  assert(device <= devices_.size());
  if (device == devices_.size()) devices_.emplace_back();
  devices_[device] = facts;
  kinds_.resize(devices_.size());
  kinds_[device] = facts.name.substr(0, facts.name.find_first_of("0123456789"));
  for (Codelet& codelet : codelets_) codelet.devices.resize(devices_.size());
  for (Work& work : works_) work.cells.resize(devices_.size());
}

CodeletId LearnedCosts::open_codelet(const CodeletKey& key, const Hints& hints) {
  for (CodeletId id = 0; id < codelets_.size(); ++id) {
    Codelet& known = codelets_[id];
    if (known.last_use == 0 || known.key != key) continue;
    ++known.users;
    known.hints = hints;
    known.last_use = ++uses_;
    return id;
  }
  if (free_codelets_.empty() && codelets_.size() >= max_learned_codelets) forget_least_used();
  if (free_codelets_.empty()) {
    free_codelets_.push_back(static_cast<CodeletId>(codelets_.size()));
    codelets_.emplace_back();
  }
  const CodeletId id = free_codelets_.back();
  free_codelets_.pop_back();
  codelets_[id] = Codelet{};
  codelets_[id].key = key;
  codelets_[id].hints = hints;
  codelets_[id].users = 1;
  codelets_[id].last_use = ++uses_;
  codelets_[id].devices.resize(devices_.size());
  return id;
}

void LearnedCosts::close_codelet(CodeletId codelet) {
  assert(codelets_[codelet].users > 0);
  --codelets_[codelet].users;
}

/// Of those that are not open. There may be none: then the table grows, as far as the limits of
/// tenants let it.
void LearnedCosts::forget_least_used() {
  Codelet* oldest = nullptr;
  for (Codelet& codelet : codelets_)
    if (codelet.users == 0 && codelet.last_use != 0 &&
        (oldest == nullptr || codelet.last_use < oldest->last_use))
      oldest = &codelet;
  if (oldest == nullptr) return;
  for (const auto& [footprint, work] : oldest->works) free_works_.push_back(work);
  const auto at = std::ranges::find_if(codelets_, [&](const Codelet& c) { return &c == oldest; });
  free_codelets_.push_back(static_cast<CodeletId>(at - codelets_.begin()));
  *oldest = Codelet{};
}

WorkId LearnedCosts::work(CodeletId id, const Features& features) {
  Codelet& codelet = codelets_[id];
  const auto known = codelet.works.find(features.footprint);
  if (known != codelet.works.end()) return known->second;
  if (codelet.works.size() < max_learned_sizes) return add_work(id, features.footprint, features);
  // Too many sizes to remember each: those of about as many bytes and blocks are one.
  const auto bytes = static_cast<std::uint64_t>(log_of(features.bytes) / std::log(2.0));
  const auto blocks = static_cast<std::uint64_t>(log_of(features.blocks) / std::log(2.0));
  const std::uint64_t bucket = ~std::uint64_t{0} - (bytes << 8 | blocks);
  const auto rough = codelet.works.find(bucket);
  return rough != codelet.works.end() ? rough->second : add_work(id, bucket, features);
}

WorkId LearnedCosts::add_work(CodeletId id, std::uint64_t footprint, const Features& features) {
  Codelet& codelet = codelets_[id];
  if (free_works_.empty()) {
    free_works_.push_back(static_cast<WorkId>(works_.size()));
    works_.emplace_back();
  }
  const WorkId at = free_works_.back();
  free_works_.pop_back();
  Work work;
  work.codelet = id;
  work.features = features;
  work.x = {1, log_of(features.bytes), log_of(features.blocks)};
  if (codelet.works.empty()) codelet.center = {0, work.x[1], work.x[2]};
  for (int i = 1; i < Regression::dimensions; ++i) work.x[i] -= codelet.center[i];
  work.cells.resize(devices_.size());
  works_[at] = std::move(work);
  codelet.works[footprint] = at;
  return at;
}

// ---- prediction -------------------------------------------------------------------------------

/// 0: nothing is known.
double LearnedCosts::prior_time_ns(const Codelet& codelet, const Features& features,
                                   DeviceId device) const {
  const DeviceFacts& facts = devices_[device];
  if (codelet.hints.flops_per_block > 0 && facts.flops_per_s > 0) {
    const double compute_s = codelet.hints.flops_per_block * features.blocks / facts.flops_per_s;
    const double memory_s = facts.bytes_per_s > 0 ? features.bytes / facts.bytes_per_s : 0;
    return facts.launch_ns + 1e9 * std::max(compute_s, memory_s);
  }
  if (codelet.hints.time_ns <= 0) return 0;
  const double reference = devices_.front().flops_per_s;
  const double speed = reference > 0 && facts.flops_per_s > 0 ? facts.flops_per_s / reference : 1.0;
  return facts.launch_ns + codelet.hints.time_ns / speed;
}

/// What the regression's residuals are taken from: it must not change with what is learned.
double LearnedCosts::prior_log(const Codelet& codelet, const Work& work, DeviceId device,
                               bool time) const {
  if (!time) return log_of(work.features.bytes);
  const double known = prior_time_ns(codelet, work.features, device);
  return log_of(known > 0 ? known : unknown_time_ns);
}

/// Before anything ran here: as long as on the device where most is known, of the same kind if
/// there is one: what a GPU takes says little of a processor.
LearnedCosts::Guess LearnedCosts::elsewhere(const Work& work, DeviceId device, bool time,
                                            double prior) const {
  const Series* best = nullptr;
  std::pair<bool, std::uint32_t> most{false, 0};
  for (DeviceId d = 0; d < work.cells.size(); ++d) {
    const Series& series = time ? work.cells[d].time : work.cells[d].memory;
    if (d == device || series.history.samples() == 0) continue;
    const std::pair known{kinds_[d] == kinds_[device], series.history.samples()};
    if (known > most) best = &series, most = known;
  }
  if (best == nullptr) return {Level::none, prior, unknown_sd, 0, unknown_sd};
  return {Level::hint, best->history.mean(), hint_sd, 0, hint_sd};
}

/// What this size took on another device, by how the trends of the two differ: a size that takes
/// longer than its trend there will do so here.
std::optional<LearnedCosts::Guess> LearnedCosts::carried_over(const Codelet& codelet,
                                                              const Work& work, DeviceId device,
                                                              bool time) const {
  const auto trend_of = [&](DeviceId d) -> const Trend& {
    return time ? codelet.devices[d].time : codelet.devices[d].memory;
  };
  const auto series_of = [&](DeviceId d) -> const Series& {
    return time ? work.cells[d].time : work.cells[d].memory;
  };
  if (trend_of(device).regression.samples() < regression_speaks_after) return std::nullopt;
  DeviceId best = device;
  for (DeviceId d = 0; d < work.cells.size(); ++d)
    if (trend_of(d).regression.samples() >= regression_speaks_after &&
        series_of(d).history.samples() > series_of(best).history.samples())
      best = d;
  if (best == device) return std::nullopt;
  const auto trend_at = [&](DeviceId d) {
    return prior_log(codelet, work, d, time) + trend_of(d).regression.predict(work.x).mean;
  };
  const History& history = series_of(best).history;
  const double sd = std::hypot(history.predictive_sd(), carry_over_sd);
  return Guess{Level::regression, history.mean() + trend_at(device) - trend_at(best), sd,
               history.variance(), trend_of(device).regression_error.value()};
}

LearnedCosts::Guess LearnedCosts::guess_without_trees(const Codelet& codelet, const Work& work,
                                                      DeviceId device, bool time) const {
  const Series& series = time ? work.cells[device].time : work.cells[device].memory;
  const Trend& trend = time ? codelet.devices[device].time : codelet.devices[device].memory;
  const double prior = prior_log(codelet, work, device, time);
  Guess best{Level::hint, prior, hint_sd, 0, trend.prior_error.value()};
  if (time && prior_time_ns(codelet, work.features, device) <= 0) {
    best = elsewhere(work, device, time, prior);
    if (trend.prior_error.samples() > 0) best.error = trend.prior_error.value();
  }
  if (series.history.samples() == 0)
    if (const std::optional<Guess> other = carried_over(codelet, work, device, time)) return *other;
  if (trend.regression.samples() >= regression_speaks_after) {
    const bool own = series.regression_error.samples() >= own_judgement_after;
    const double error = own ? series.regression_error.value() : trend.regression_error.value();
    const Regression::Prediction p = trend.regression.predict(work.x);
    if (best.level == Level::none || error < best.error)
      best = {Level::regression, prior + p.mean, p.sd, 0, error};
  }
  if (series.history.samples() > 0) {
    const bool own = series.history_error.samples() >= own_judgement_after;
    const double error = own ? series.history_error.value() : trend.history_error.value();
    if (best.level <= Level::hint || error <= best.error)
      best = {Level::history, series.history.mean(), series.history.predictive_sd(),
              series.history.variance(), error};
  }
  return best;
}

Quantity LearnedCosts::quantity(const Guess& guess, double z) {
  const double variance = std::min(guess.variance, most_log_variance);
  return {std::exp(guess.mean + variance / 2), std::exp(guess.mean + z * guess.sd)};
}

void LearnedCosts::refresh(const Codelet& codelet, Work& work, DeviceId device) {
  Cell& cell = work.cells[device];
  const PerDevice& here = codelet.devices[device];
  const Guess time = guess(codelet, work, device, true);
  const Guess memory = guess(codelet, work, device, false);
  const auto z = [](const Series& series, const Trend& trend) {
    return series.has_own_quantile ? series.quantile.z() : trend.quantile.z();
  };
  cell.estimate.time = quantity(time, z(cell.time, here.time));
  // Nothing is known before anything was measured: a task may need no memory but its buffers.
  cell.estimate.memory = here.memory.regression.samples() == 0
                             ? Quantity{0, 0}
                             : quantity(memory, z(cell.memory, here.memory));
  cell.estimate.samples = cell.time.history.samples();
  cell.estimate.level = time.level;
  cell.version = here.version;
}

const Estimate& LearnedCosts::estimate(WorkId id, DeviceId device) {
  Work& work = works_[id];
  const Codelet& codelet = codelets_[work.codelet];
  Cell& cell = work.cells[device];
  const PerDevice& here = codelet.devices[device];
  // What history says changes only with its own samples, and then it is refreshed.
  if (cell.version != here.version && (cell.version == 0 || cell.estimate.level != Level::history))
    refresh(codelet, work, device);
  cell.estimate.passed_over = here.passed_over;
  cell.estimate.passed_over_ns = here.passed_over_ns;
  cell.estimate.fruitless = here.fruitless;
  return cell.estimate;
}

// ---- learning ---------------------------------------------------------------------------------

void LearnedCosts::placed(WorkId id, DeviceId device) {
  const Work& work = works_[id];
  Codelet& codelet = codelets_[work.codelet];
  const double takes_ns = work.cells[device].estimate.time.mean;
  for (PerDevice& one : codelet.devices) {
    if (one.passed_over != ~0u) ++one.passed_over;
    one.passed_over_ns += takes_ns;
  }
  codelet.devices[device].passed_over = 0;
  codelet.devices[device].passed_over_ns = 0;
  ++codelet.devices[device].fruitless;
}

void LearnedCosts::learn(const Observation& what) {
  Work& work = works_[what.work];
  Codelet& codelet = codelets_[work.codelet];
  PerDevice& here = codelet.devices[what.device];
  codelet.last_use = ++uses_;
  here.fruitless = 0;
  ++observations_;
  learn_one(codelet, work, what.device, true, log_of(what.time_ns));
  if (what.memory_bytes > 0)
    learn_one(codelet, work, what.device, false, log_of(what.memory_bytes));
  // It may have become another: find out soon, whatever the estimate says.
  if (work.cells[what.device].time.history.was_surprised()) {
    here.passed_over = ~0u;
    here.passed_over_ns = std::numeric_limits<double>::infinity();
  }
  if (++here.version == 0) here.version = 1;
  // Where it never ran, what it takes here is all that is known; seldom told, for it costs time.
  if (std::has_single_bit(here.time.regression.samples()))
    for (PerDevice& other : codelet.devices)
      if (&other != &here && other.time.regression.samples() < regression_speaks_after)
        if (++other.version == 0) other.version = 1;
  refresh(codelet, work, what.device);
}

void LearnedCosts::learn_one(Codelet& codelet, Work& work, DeviceId device, bool time, double y) {
  Series& series = time ? work.cells[device].time : work.cells[device].memory;
  Trend& trend = time ? codelet.devices[device].time : codelet.devices[device].memory;
  // First how wrong each was, before it knew.
  const Guess spoke = guess(codelet, work, device, time);
  const double prior = prior_log(codelet, work, device, time);
  if (series.history.samples() == 0) saw_first(codelet, work, device, time, y, trend, series);
  trend.prior_error.saw(std::abs(y - prior));
  if (trend.regression.samples() >= regression_speaks_after) {
    const double error = std::abs(y - prior - trend.regression.predict(work.x).mean);
    trend.regression_error.saw(error);
    series.regression_error.saw(error);
  }
  if (series.history.samples() > 0) {
    const double error = std::abs(y - series.history.mean());
    trend.history_error.saw(error);
    series.history_error.saw(error);
  }
  if (spoke.level >= Level::regression) {
    const double z = series.has_own_quantile ? series.quantile.z() : trend.quantile.z();
    const bool hit = y <= spoke.mean + z * spoke.sd;
    trend.quantile.saw(hit);
    series.quantile.saw(hit);
  }
  if (!series.has_own_quantile && series.history.samples() >= own_judgement_after) {
    series.quantile = trend.quantile;
    series.has_own_quantile = true;
  }
  trend.regression.learn(work.x, y - prior);
  series.history.learn(y);
}

void LearnedCosts::for_each(const std::function<void(const Row&)>& visit) {
  for (const Codelet& codelet : codelets_)
    for (const auto& [footprint, id] : codelet.works)
      for (DeviceId d = 0; d < devices_.size(); ++d) {
        Work& work = works_[id];
        if (work.cells[d].time.history.samples() == 0) continue;
        visit({&codelet.key, &devices_[d], work.features, estimate(id, d),
               guess(codelet, work, d, true).error, work.cells[d].time.history.drifts()});
      }
}

}  // namespace aios::scheduler
