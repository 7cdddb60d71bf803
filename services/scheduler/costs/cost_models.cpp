#include "services/scheduler/costs/cost_models.hpp"

#include <algorithm>
#include <cmath>

namespace aios::scheduler {
namespace {

// The quantile.
constexpr double quantile = 0.95;
constexpr double most_z = 8;

// History.
constexpr double newest_weight = 0.02;  ///< at least; the first ones count equally
/// As if two residuals of that size had been seen before.
constexpr double variance_before = 0.09;
constexpr double variance_before_weight = 2;
constexpr double least_variance = 1e-4;  ///< one percent
constexpr double clip_sd = 3;
constexpr double surprise_sd = 4;
constexpr double drift_slack = 0.5;  ///< standard deviations that may pile up unnoticed, each time
constexpr double drift_limit = 8;
constexpr std::uint32_t drift_after = 4;  ///< samples without which nothing is called a change

// Regression.
constexpr double forgetting = 0.995;
constexpr double clip_residual = 2;
constexpr double weight_variance[Regression::dimensions] = {4, 1, 1};
constexpr double most_covariance = 1e4;
constexpr double doubt_after_restart = 2;  ///< more of it, by variance
/// How far beyond what was seen it may tell, a factor of twenty: few samples make steep slopes.
constexpr double most_beyond = 3;

constexpr double error_weight = 0.1;

}  // namespace

void QuantileTracker::saw(bool hit) {
  z_ += step_ * (quantile - (hit ? 1.0 : 0.0));
  z_ = std::clamp(z_, least_, most_z);
}

void QuantileTracker::restore(double z) {
  z_ = std::clamp(z, least_, most_z);
}

double History::predictive_sd() const {
  const double n = std::max(samples_, 1u);
  return std::sqrt(variance_ * (1 + 1 / std::min(n, 1 / newest_weight)));
}

void History::restore(double mean, double variance, std::uint32_t samples) {
  *this = {};
  mean_ = mean;
  variance_ = std::max(variance, least_variance);
  samples_ = samples;
  warm_ = true;
}

void History::learn(double y) {
  if (samples_ == 0) {
    mean_ = y;
    variance_ = variance_before;
    samples_ = 1;
    return;
  }
  if (!warm_) {
    // The first one loaded the module and warmed the caches: it stands only until the second.
    warm_ = true;
    mean_ = y;
    return;
  }
  const double residual = y - mean_;
  const double sd = predictive_sd();
  const double standardised = residual / sd;
  surprised_ = std::abs(standardised) > surprise_sd && samples_ >= drift_after;
  const double clipped = std::clamp(standardised, -clip_sd, clip_sd);
  if (samples_ >= drift_after) {
    const bool rose = piles_up(up_, clipped, residual);
    const bool fell = piles_up(down_, -clipped, residual);
    if (rose || fell) return start_anew(rose ? up_ : down_);
  }
  ++samples_;
  const double n = samples_;
  const double used = samples_ > drift_after ? clipped * sd : residual;
  const double k = std::max(1 / (n - 1 + variance_before_weight), newest_weight);
  // A residual is wider than the noise by the doubt about the mean.
  const double shrink = (n - 1) / n;
  variance_ = std::max(variance_ + k * (used * used * shrink - variance_), least_variance);
  mean_ += std::max(1 / n, newest_weight) * used;
}

bool History::piles_up(Cusum& cusum, double standardised, double residual) {
  cusum.sum += standardised - drift_slack;
  if (cusum.sum <= 0) {
    cusum = {};
    return false;
  }
  cusum.residuals += residual;
  ++cusum.count;
  return cusum.sum > drift_limit;
}

void History::start_anew(const Cusum& from) {
  mean_ += from.residuals / from.count;
  samples_ = from.count;
  ++drifts_;
  up_ = down_ = {};
}

Regression::Regression() : noise_(variance_before) {
  for (int i = 0; i < dimensions; ++i) covariance_[i][i] = weight_variance[i] / variance_before;
}

Regression::State Regression::state() const {
  return {weights_, covariance_, noise_, lowest_, highest_, samples_, 0};
}

void Regression::restore(const State& state) {
  weights_ = state.weights;
  covariance_ = state.covariance;
  for (Vector& row : covariance_)
    for (double& value : row) value *= doubt_after_restart;
  noise_ = std::max(state.noise, least_variance);
  lowest_ = state.lowest;
  highest_ = state.highest;
  samples_ = state.samples;
}

Regression::Prediction Regression::predict(const Vector& x) const {
  double mean = 0;
  double spread = 0;
  for (int i = 0; i < dimensions; ++i) {
    mean += weights_[i] * x[i];
    for (int k = 0; k < dimensions; ++k) spread += x[i] * covariance_[i][k] * x[k];
  }
  mean = std::clamp(mean, lowest_ - most_beyond, highest_ + most_beyond);
  return {mean, std::sqrt(noise_ * (1 + spread))};
}

void Regression::learn(const Vector& x, double y) {
  Vector px{};
  double spread = 0;
  double mean = 0;
  for (int i = 0; i < dimensions; ++i) {
    for (int k = 0; k < dimensions; ++k) px[i] += covariance_[i][k] * x[k];
    spread += x[i] * px[i];
    mean += weights_[i] * x[i];
  }
  const double residual = std::clamp(y - mean, -clip_residual, clip_residual);
  const double gain = 1 / (forgetting + spread);
  double trace = 0;
  for (int i = 0; i < dimensions; ++i) trace += covariance_[i][i];
  // What no sample tells anything about would otherwise grow without end.
  const double forget = trace < most_covariance ? forgetting : 1.0;
  for (int i = 0; i < dimensions; ++i) {
    weights_[i] += gain * px[i] * residual;
    for (int k = 0; k < dimensions; ++k)
      covariance_[i][k] = (covariance_[i][k] - gain * px[i] * px[k]) / forget;
  }
  lowest_ = samples_ == 0 ? y : std::min(lowest_, y);
  highest_ = samples_ == 0 ? y : std::max(highest_, y);
  ++samples_;
  // The residual is wider than the noise by the doubt about the weights.
  const double noise = residual * residual / (1 + spread);
  const double k = std::max(1 / (samples_ + variance_before_weight), newest_weight);
  noise_ = std::max(noise_ + k * (noise - noise_), least_variance);
}

void RunningError::saw(double error) {
  ++samples_;
  value_ += std::max(1.0 / samples_, error_weight) * (std::min(error, clip_residual) - value_);
}

}  // namespace aios::scheduler
