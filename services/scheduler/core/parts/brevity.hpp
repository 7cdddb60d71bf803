// Which tasks are so brief that they go to a context many at once, and ahead of time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "services/scheduler/policy/placement.hpp"

namespace aios::scheduler {

/// How long one codelet's tasks take on each device. A task that was put off its core in between
/// seems to take long though it is brief, so single ones do not count; but a codelet of which more
/// than a few take long is not brief, for others would wait behind them.
class Brevity {
 public:
  /// What tasks may take in the mean to be brief, and how many samples tell.
  static constexpr double most_ns = 250'000;
  static constexpr std::uint32_t least_samples = 8;
  static constexpr double long_ns = 10 * most_ns;
  static constexpr double most_long = 1.0 / 32;

  void learn(DeviceId device, double duration_ns) {
    if (device >= devices_.size()) devices_.resize(device + 1);
    Times& times = devices_[device];
    ++times.samples;
    const double weight = 1.0 / std::min(times.samples, 64u);
    times.mean_ns += (std::min(duration_ns, long_ns) - times.mean_ns) * weight;
    times.long_share += ((duration_ns > long_ns ? 1 : 0) - times.long_share) * weight;
  }
  bool is_brief(DeviceId device) const {
    if (device >= devices_.size()) return false;
    const Times& times = devices_[device];
    return times.samples >= least_samples && times.mean_ns <= most_ns &&
           times.long_share <= most_long;
  }
  /// Tasks of which this was learned.
  std::uint32_t samples(DeviceId device) const {
    return device < devices_.size() ? devices_[device].samples : 0;
  }
  /// Of a brief one.
  std::uint32_t expected_ns(DeviceId device) const {
    return static_cast<std::uint32_t>(devices_[device].mean_ns);
  }

 private:
  struct Times {
    std::uint32_t samples = 0;
    double mean_ns = 0;     ///< with what is long counted as long_ns
    double long_share = 0;  ///< of the last few dozen
  };
  std::vector<Times> devices_;
};

}  // namespace aios::scheduler
