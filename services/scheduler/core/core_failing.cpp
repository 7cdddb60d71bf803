// Devices on which the tasks of a codelet fail. A run that fails teaches nothing of how long it
// takes there, so that a device on which all fail may go on to be guessed the best, and one that
// fails at once is always free.
//
// After three failures in a row, with no success there between, a device gets none of the tenant's
// tasks of this codelet as long as another one would do; after 64 that were placed elsewhere it is
// as any other for one more, after 128 if that fails, too, and so on up to 2,048. The count is the
// tenant's own: what it gives to its tasks may be what makes them fail, and is no reason to keep
// those of others from a device. It ends with the first success.
#include <algorithm>

#include "services/scheduler/core/core_inline.hpp"

namespace aios::scheduler {
namespace {

/// Fewer may have been the tasks' own faults.
constexpr std::uint32_t failures_to_shun = 3;
constexpr std::uint32_t shun_least = 64;
constexpr std::uint32_t shun_most = 2048;

}  // namespace

/// The task's run on its device was its own failure, or the device's.
void Core::note_failure(const Task& task) {
  CodeletType& codelet = task.tenant->codelets[task.record.codelet];
  const std::uint32_t successes = codelet.brevity.samples(task.device);
  CodeletType::Failing& here = codelet.failing[task.device];
  if (here.successes != successes) here = {0, successes, 0};
  if (here.in_a_row != ~0u) ++here.in_a_row;
}

bool Core::is_shunned(const CodeletType& codelet, DeviceId device) const {
  const auto at = codelet.failing.find(device);
  if (at == codelet.failing.end()) return false;
  const CodeletType::Failing& here = at->second;
  if (here.in_a_row < failures_to_shun || here.successes != codelet.brevity.samples(device))
    return false;
  const std::uint32_t doublings = std::min(here.in_a_row - failures_to_shun, 31u);
  return here.passed_over <
         std::min<std::uint64_t>(std::uint64_t{shun_least} << doublings, shun_most);
}

/// Whether another device would do than those on which its codelet's tasks fail.
bool Core::another_would_do(const Tenant& tenant, const Task& task) {
  const CodeletType& codelet = tenant.codelets[task.record.codelet];
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (!devices_[d].usable || !suits(tenant, task.record, d) || is_shunned(codelet, d)) continue;
    const Context& context = tenant.job->contexts[d];
    if (context.state == ContextState::stalled || context.state == ContextState::closing ||
        (context.state == ContextState::none && context.refused))
      continue;
    if (!holds_copies(d) || memory_room(task, d, memory_need(task, d)) != MemoryRoom::held)
      return true;
  }
  return false;
}

void Core::count_passed_over(CodeletType& codelet, DeviceId chosen) const {
  for (auto& [device, failing] : codelet.failing) {
    if (device == chosen)
      failing.passed_over = 0;
    else if (failing.passed_over != ~0u)
      ++failing.passed_over;
  }
}

bool Core::has_shunned_a_sooner_one(const Choice& choice) const {
  if (choice.reason == Reason::probe) return false;
  if (choice.reason == Reason::only_one || !looks_ahead_) return true;
  const std::uint64_t end_ns = finish_ns(candidates_[choice.candidate]);
  return std::ranges::any_of(shunned_, [&](const Candidate& c) { return finish_ns(c) < end_ns; });
}

}  // namespace aios::scheduler
