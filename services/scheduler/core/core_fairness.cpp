// Whose turn it is, by the time that users and tenants have had of the devices (fair_share.hpp).
#include <algorithm>

#include "services/scheduler/core/core.hpp"

namespace aios::scheduler {

/// The tenant has ready tasks again.
void Core::wakes(Tenant& tenant) {
  User& user = *tenant.job->user;
  if (user.active++ == 0 && user.running == 0) user.share.wakes(served_ns_);
  tenant.share.wakes(user.served_ns);
}

/// A task of the tenant starts.
void Core::served(Tenant& tenant) {
  User& user = *tenant.job->user;
  served_ns_ = std::max(served_ns_, user.share.place().used_ns);
  user.served_ns = std::max(user.served_ns, tenant.share.place().used_ns);
  user.share.starts(++last_turn_);
  tenant.share.starts(last_turn_);
}

/// The task takes a slot, for as long as such tasks take, and as many threads as it keeps busy;
/// those that are brief share one, and are not measured each.
void Core::charge(Task& task) {
  const CodeletType& codelet = task.tenant->codelets[task.record.codelet];
  const double expected_ns =
      task.brief          ? std::max(codelet.brevity.expected_ns(task.device), least_charge_ns)
      : costs_ != nullptr ? costs_->estimate(task.work, task.device).time.mean
                          : codelet.slot_ns;
  constexpr double most_ns = 60e9;
  task.slot_since_ns = now_ns_;
  task.charged_ns = static_cast<std::int64_t>(std::min(expected_ns, most_ns));
  task.slot_share = task.brief ? 1 : devices_[task.device].share_of(task.width);
  charge(*task.tenant, task.charged_ns, task.slot_share);
}

void Core::charge(Tenant& tenant, std::int64_t ns, double share) {
  const auto all_ns = static_cast<std::int64_t>(static_cast<double>(ns) * share);
  tenant.job->user->share.charge(all_ns);
  tenant.share.charge(all_ns);
}

/// Of slots that were given back since the last decision. By our own clock: contexts have no say.
void Core::settle_charges() {
  constexpr double newest_weight = 0.1;
  for (const Charge& held : charges_) {
    const auto at = tenants_.find(held.tenant);
    if (at == tenants_.end()) continue;
    Tenant& tenant = *at->second;
    const auto held_ns = static_cast<std::int64_t>(now_ns_ - std::min(now_ns_, held.since_ns));
    charge(tenant, -held.charged_ns, held.share_then);
    charge(tenant, held_ns, (held.share_then + held.share_now) / 2);
    double& slot_ns = tenant.codelets[held.codelet].slot_ns;
    slot_ns += (static_cast<double>(held_ns) - slot_ns) * (slot_ns == 0 ? 1 : newest_weight);
  }
  charges_.clear();
}

}  // namespace aios::scheduler
