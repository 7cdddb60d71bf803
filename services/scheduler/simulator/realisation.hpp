// One run of a graph on a platform: how long each task really takes on each device. Drawn before
// the run from the seed, so that every policy meets the same luck.
#pragma once

#include <cstdint>
#include <vector>

#include "services/scheduler/simulator/platform.hpp"

namespace aios::scheduler::sim {

struct Chances {
  double noise = 0;  ///< coefficient of variation of run times: log-normal, with mean 1
  double ccr =
      -1;  ///< mean time to bring a task's inputs over, by its mean run time; < 0: as it is
  std::uint64_t seed = 1;
};

class Realisation {
 public:
  /// not_supported: a task has no variant for any device. invalid_argument: a ccr for a graph
  /// without data, or for a platform with one memory.
  static Result<Realisation> draw(const Graph& graph, const Platform& platform,
                                  const Chances& chances);

  const Graph& graph() const { return *graph_; }
  const Platform& platform() const { return *platform_; }
  /// What it takes in this run; < 0: it cannot run there.
  double true_ns(std::uint32_t task, DeviceId device) const {
    return true_ns_[task * devices_ + device];
  }
  /// Copying its data there and back, where a recorded run says so: while tasks before it run, or
  /// between those and those after it.
  struct Copying {
    double ahead_ns = 0;
    double between_ns = 0;
    double all_ns() const { return ahead_ns + between_ns; }
  };
  Copying copying(std::uint32_t task, DeviceId device) const;
  /// What it takes on average over all runs.
  double expected_ns(std::uint32_t task, DeviceId device) const {
    return expected_ns_[task * devices_ + device];
  }
  TransferCost bus() const { return bus_; }

 private:
  Result<void> scale_bus(double ccr);

  const Graph* graph_ = nullptr;
  const Platform* platform_ = nullptr;
  std::size_t devices_ = 0;
  std::vector<double> expected_ns_;
  std::vector<double> true_ns_;
  TransferCost bus_;
};

/// No schedule can be shorter: the longest way through the graph with every task where it is
/// fastest, and all work spread over all slots as well as can be.
double lower_bound_ns(const Realisation& run);

}  // namespace aios::scheduler::sim
