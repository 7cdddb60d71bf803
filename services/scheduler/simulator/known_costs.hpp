// Costs that the simulator knows without learning, and those that it lends to a core.
#pragma once

#include <vector>

#include "services/scheduler/costs/costs.hpp"
#include "services/scheduler/simulator/realisation.hpp"

namespace aios::scheduler::sim {

/// Costs that outlive the core that asks them: what was learned in one run is there in the next.
class BorrowedCosts final : public Costs {
 public:
  explicit BorrowedCosts(Costs& to) : to_(to) {}
  void set_device(DeviceId device, const DeviceFacts& facts) override {
    to_.set_device(device, facts);
  }
  CodeletId open_codelet(const CodeletKey& key, const Hints& hints) override {
    return to_.open_codelet(key, hints);
  }
  void close_codelet(CodeletId codelet) override { to_.close_codelet(codelet); }
  WorkId work(CodeletId codelet, const Features& features) override {
    return to_.work(codelet, features);
  }
  const Estimate& estimate(WorkId work, DeviceId device) override {
    return to_.estimate(work, device);
  }
  void placed(WorkId work, DeviceId device) override { to_.placed(work, device); }
  void learn(const Observation& what) override { to_.learn(what); }

 private:
  Costs& to_;
};

/// By task, told beforehand; a task is recognised by its tag, which is its index.
class ToldCosts final : public Costs {
 public:
  /// What each task really takes.
  static ToldCosts exact(const Realisation& run);
  /// What each task takes on average over all runs.
  static ToldCosts expected(const Realisation& run);
  /// What tasks of its type take on average, by device.
  static ToldCosts mean_by_type(const Realisation& run);

  void set_device(DeviceId, const DeviceFacts&) override {}
  CodeletId open_codelet(const CodeletKey&, const Hints&) override { return 0; }
  void close_codelet(CodeletId) override {}
  WorkId work(CodeletId, const Features& features) override {
    return static_cast<WorkId>(features.tag);
  }
  const Estimate& estimate(WorkId work, DeviceId device) override {
    return estimates_[work * devices_ + device];
  }
  void placed(WorkId, DeviceId) override {}
  void learn(const Observation&) override {}

 private:
  static ToldCosts told(const Realisation& run,
                        double (Realisation::*time_ns)(std::uint32_t, DeviceId) const);

  std::size_t devices_ = 0;
  std::vector<Estimate> estimates_;  ///< by task and device
};

}  // namespace aios::scheduler::sim
