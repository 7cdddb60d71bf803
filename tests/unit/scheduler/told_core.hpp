// A core whose costs, devices and time a test tells: contexts are ready at once, and a task ends
// when the test says so.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "services/scheduler/policy/policy.hpp"
#include "tests/unit/scheduler/fixture.hpp"
#include "tests/unit/scheduler/told_costs.hpp"

namespace aios::scheduler {

class ToldCore {
 public:
  static constexpr std::uint64_t ms = 1'000'000;

  /// Carries out what the core decides, until it has nothing more to do.
  void run() {
    while (true) {
      core.decide(now);
      const std::vector<Action> actions = core.take_actions();
      if (actions.empty()) return;
      for (const Action& action : actions) {
        if (action.kind == Action::Kind::open_context)
          core.context_ready(action.job, action.device);
        if (action.kind != Action::Kind::start) continue;
        const std::uint64_t tag = core.find(action.task)->record.tag;
        running[tag] = action.task;
        on[tag] = action.device;
      }
    }
  }
  /// The task began now and ends after so long, which is now from then on.
  void end(std::uint64_t tag, std::uint64_t after_ns = 10 * ms) {
    REQUIRE(running.contains(tag));
    Core::RunReply reply{};
    reply.start_ns = now;
    reply.end_ns = now += after_ns;
    core.task_answered(running.at(tag), reply);
    running.erase(tag);
    run();
  }

  ToldCosts* costs;
  Core core;
  std::uint64_t now = 1000 * ms;
  std::map<std::uint64_t, TaskRef> running;
  std::map<std::uint64_t, DeviceId> on;  ///< where each task started last

 protected:
  explicit ToldCore(Policy policy) : ToldCore(std::move(policy), std::make_unique<ToldCosts>()) {}

  void add_device(DeviceId device, std::uint32_t slots) {
    core.set_device(device, slots, true, "cpu" + std::to_string(device));
    core.set_open_time(device, 0);
  }
  /// As known from runs before.
  void tell(const std::string& codelet, DeviceId device, std::uint64_t time_ns) {
    costs->tell(codelet, device, static_cast<double>(time_ns));
    costs->estimates[{codelet, device}].level = Level::history;
  }

 private:
  ToldCore(Policy policy, std::unique_ptr<ToldCosts> told)
      : costs(told.get()),
        core(std::move(policy.order), std::move(policy.placement), std::move(told)) {}
};

}  // namespace aios::scheduler
