#include "services/supervisor/fleet.hpp"

#include <algorithm>

namespace aios::supervisor {

Fleet::Fleet(const Plan& plan) : needed_by_(plan.servers.size()) {
  for (const PlannedServer& server : plan.servers)
    machines_.emplace_back(plan.timing, server.spec.restart);
  for (std::size_t i = 0; i < plan.servers.size(); ++i)
    for (const std::size_t need : plan.servers[i].needs) needed_by_[need].push_back(i);
}

void Fleet::stop(std::uint64_t drain_until_ns) {
  stopping_ = true;
  drain_until_ns_ = drain_until_ns;
  draining_.assign(machines_.size(), true);
}

bool Fleet::is_draining(std::uint64_t now_ns) const {
  if (!stopping_ || now_ns >= drain_until_ns_) return false;
  for (std::size_t i = 0; i < machines_.size(); ++i)
    if (draining_[i] && machines_[i].alive()) return true;
  return false;
}

std::optional<Fleet::Due> Fleet::step(std::uint64_t now_ns) {
  if (stopping_ && !is_draining(now_ns)) {
    // Backwards, so that one pass sees whom a server without a process kept waiting.
    for (std::size_t i = machines_.size(); i-- > 0;)
      if (std::all_of(needed_by_[i].begin(), needed_by_[i].end(),
                      [this](std::size_t user) { return machines_[user].ended(); }))
        machines_[i].stop(now_ns);
  }
  for (std::size_t i = 0; i < machines_.size(); ++i) {
    // Nobody starts again once the end has begun; its own stop comes when its users are gone.
    if (stopping_ && !machines_[i].alive()) continue;
    if (const Action action = machines_[i].step(now_ns); action != Action::none)
      return Due{i, action};
  }
  return std::nullopt;
}

std::uint64_t Fleet::wake_ns() const {
  std::uint64_t wake = never_ns;
  for (const ServerMachine& machine : machines_)
    if (!stopping_ || machine.alive()) wake = std::min(wake, machine.wake_ns());
  // 0 when there is nobody to wait for: the last to drain has already had everybody looked at.
  if (stopping_ && is_draining(0)) wake = std::min(wake, drain_until_ns_);
  return wake;
}

bool Fleet::ended() const {
  return std::all_of(machines_.begin(), machines_.end(),
                     [](const ServerMachine& machine) { return machine.ended(); });
}

bool Fleet::all_running() const {
  return std::all_of(machines_.begin(), machines_.end(), [](const ServerMachine& machine) {
    return machine.state() == ServerState::running;
  });
}

std::optional<std::size_t> Fleet::first_given_up() const {
  for (std::size_t i = 0; i < machines_.size(); ++i)
    if (machines_[i].given_up()) return i;
  return std::nullopt;
}

}  // namespace aios::supervisor
