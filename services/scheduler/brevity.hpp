// Which tasks are so brief that they go to a context many at once, and ahead of time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "services/scheduler/placement.hpp"

namespace aios::scheduler {

/// How long one codelet's tasks take on each device. Upper bounds rise at once and sink slowly, so
/// that a codelet with a few long tasks among many short ones does not pass for brief.
class Brevity {
 public:
  /// What a task may take to be brief, and how many samples tell.
  static constexpr double most_ns = 50'000;
  static constexpr std::uint32_t least_samples = 8;

  void learn(DeviceId device, double duration_ns) {
    if (device >= devices_.size()) devices_.resize(device + 1);
    Times& times = devices_[device];
    ++times.samples;
    times.mean_ns += (duration_ns - times.mean_ns) / std::min(times.samples, 64u);
    times.upper_ns = std::max(duration_ns, times.upper_ns * 0.99);
  }
  bool is_brief(DeviceId device) const {
    return device < devices_.size() && devices_[device].samples >= least_samples &&
           devices_[device].upper_ns <= most_ns;
  }
  /// Of a brief one.
  std::uint32_t expected_ns(DeviceId device) const {
    return static_cast<std::uint32_t>(devices_[device].mean_ns);
  }

 private:
  struct Times {
    std::uint32_t samples = 0;
    double mean_ns = 0;
    double upper_ns = 0;
  };
  std::vector<Times> devices_;
};

}  // namespace aios::scheduler
