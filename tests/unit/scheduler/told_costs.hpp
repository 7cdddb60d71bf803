// Costs that a test tells, and what the core told them.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "services/scheduler/costs/costs.hpp"

namespace aios::scheduler {

class ToldCosts final : public Costs {
 public:
  void set_device(DeviceId device, const DeviceFacts& facts) override { devices[device] = facts; }
  CodeletId open_codelet(const CodeletKey& key, const Hints&) override {
    codelets.push_back(key);
    return static_cast<CodeletId>(codelets.size() - 1);
  }
  void close_codelet(CodeletId codelet) override { closed.push_back(codelet); }
  /// One piece of work for each codelet.
  WorkId work(CodeletId codelet, const Features& features) override {
    last_features = features;
    return codelet;
  }
  const Estimate& estimate(WorkId work, DeviceId device) override {
    ++asked;
    return estimates[{codelets[work].function, device}];
  }
  void placed(WorkId work, DeviceId device) override { placements.emplace_back(work, device); }
  void learn(const Observation& what) override { learned.push_back(what); }

  void tell(const std::string& function, DeviceId device, double time_ns) {
    estimates[{function, device}].time = {time_ns, time_ns};
  }

  std::map<std::pair<std::string, DeviceId>, Estimate> estimates;
  std::map<DeviceId, DeviceFacts> devices;
  std::vector<CodeletKey> codelets;
  std::vector<CodeletId> closed;
  std::vector<std::pair<WorkId, DeviceId>> placements;
  std::vector<Observation> learned;
  std::size_t asked = 0;  ///< for estimates
  Features last_features;
};

}  // namespace aios::scheduler
