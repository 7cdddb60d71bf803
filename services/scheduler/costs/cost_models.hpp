// The models of which learned costs are made, for one quantity (time or peak memory). All work on
// logarithms: y is the natural logarithm of what was measured. MODELS.md has the mathematics and a
// worked example.
#pragma once

#include <array>
#include <cstdint>

namespace aios::scheduler {

/// Moves a quantile by what was seen of it: up by a lot after a miss, down by a little after a hit,
/// so that in the long run the share of misses is 1 - 0.95. In standard deviations.
class QuantileTracker {
 public:
  /// `step` is how fast it moves, `least` what it never goes below, `start` where it begins: by
  /// default at the quantile of a normal distribution.
  explicit QuantileTracker(double step = 0.05, double least = 0.5, double start = 1.645)
      : step_(step), least_(least), z_(start) {}
  double z() const { return z_; }
  void saw(bool hit);
  /// From an earlier life; within its bounds.
  void restore(double z);

 private:
  double step_, least_, z_;
};

/// What tasks of one size took on one device: mean and variance of y, the newest counting most.
/// A single outlier moves it little; when what is measured has changed for good, it starts anew
/// from what came since (CUSUM of standardised residuals, which is what Page-Hinkley's test is).
class History {
 public:
  std::uint32_t samples() const { return samples_; }
  std::uint32_t drifts() const { return drifts_; }
  double mean() const { return mean_; }
  double variance() const { return variance_; }
  /// Of the next y: that of the residuals, and that of the mean.
  double predictive_sd() const;
  /// Whether the last one was far from what was expected.
  bool was_surprised() const { return surprised_; }
  void learn(double y);
  /// Counts for less from now on: restored from an earlier run.
  void restore(double mean, double variance, std::uint32_t samples);

 private:
  struct Cusum {
    double sum = 0;
    double residuals = 0;  ///< since the sum was last 0
    std::uint32_t count = 0;
  };
  /// Whether residuals of this direction have piled up.
  static bool piles_up(Cusum& cusum, double standardised, double residual);
  void start_anew(const Cusum& from);

  double mean_ = 0;
  double variance_ = 0;
  std::uint32_t samples_ = 0;  ///< without the first, once there is a second
  bool warm_ = false;
  bool surprised_ = false;
  std::uint32_t drifts_ = 0;
  Cusum up_, down_;
};

/// Bayesian linear regression of y - prior on (1, ln bytes, ln blocks), recursive, with forgetting:
/// over all sizes of one codelet on one device.
class Regression {
 public:
  static constexpr int dimensions = 3;
  using Vector = std::array<double, dimensions>;
  struct Prediction {
    double mean;
    double sd;
  };

  /// All that it knows, to be kept over restarts.
  struct State {
    Vector weights;
    std::array<Vector, dimensions> covariance;
    double noise;
    double lowest, highest;
    std::uint32_t samples;
    std::uint32_t reserved;
  };

  Regression();
  std::uint32_t samples() const { return samples_; }
  State state() const;
  /// Counts for less from now on: restored from an earlier life.
  void restore(const State& state);
  /// `x` with its first component 1.
  Prediction predict(const Vector& x) const;
  void learn(const Vector& x, double y);

 private:
  Vector weights_{};
  std::array<Vector, dimensions> covariance_{};  ///< in units of the noise's variance
  double noise_ = 0;                             ///< variance
  double lowest_ = 0, highest_ = 0;              ///< that was learned from
  std::uint32_t samples_ = 0;
};

/// Mean absolute error of predictions that were made before the outcome was known, the newest
/// counting most.
class RunningError {
 public:
  double value() const { return value_; }
  std::uint32_t samples() const { return samples_; }
  void saw(double error);
  void restore(double value, std::uint32_t samples) { value_ = value, samples_ = samples; }

 private:
  double value_ = 0;
  std::uint32_t samples_ = 0;
};

}  // namespace aios::scheduler
