#include "services/supervisor/server_machine.hpp"

#include <algorithm>
#include <cassert>
#include <csignal>
#include <utility>

namespace aios::supervisor {

void ServerMachine::spawned(std::uint64_t now_ns, std::uint64_t epoch) {
  assert(!alive_);
  alive_ = true;
  ending_ = answered_ = false;
  missed_ = 0;
  epoch_ = epoch;
  born_ns_ = now_ns;
  state_ = ServerState::starting;
  plan(Action::none, 0);
}

void ServerMachine::spawn_failed(std::uint64_t now_ns, std::string why) {
  assert(!alive_);
  last_end_ = std::move(why);
  answered_ = false;
  born_ns_ = now_ns;
  life_over(now_ns, true);
}

void ServerMachine::answered(std::uint64_t took_ns) {
  if (!alive_) return;
  answered_ = ever_answered_ = true;
  missed_ = 0;
  heartbeat_ns_ = took_ns;
  if (state_ == ServerState::starting) state_ = ServerState::running;
}

void ServerMachine::missed(std::uint64_t now_ns) {
  if (!alive_ || ending_) return;
  ++missed_;
  const bool hung = answered_ ? missed_ >= timing_.missed_heartbeats
                              : now_ns - born_ns_ >= timing_.start_timeout_ns;
  if (!hung) return;
  ending_ = true;
  plan(Action::terminate, now_ns);
}

void ServerMachine::exited(std::uint64_t now_ns, const Exit& exit) {
  assert(alive_);
  alive_ = false;
  last_end_ =
      (exit.signalled ? "killed by signal " : "exited with code ") + std::to_string(exit.code);
  if (state_ == ServerState::stopping) {
    state_ = ServerState::stopped;
    plan(Action::none, 0);
    return;
  }
  last_end_from_outside_ = exit.signalled && exit.code == SIGKILL && !ending_;
  if (!std::exchange(restarting_, false)) return life_over(now_ns, !last_end_from_outside_);
  last_end_from_outside_ = true;
  state_ = ServerState::waiting;
  plan(Action::spawn, now_ns);
}

void ServerMachine::life_over(std::uint64_t now_ns, bool blamed) {
  ends_.push_back({now_ns, blamed});
  blamed_ends_ += blamed ? 1 : 0;
  while (now_ns - ends_.front().at_ns >= rule_.window_ns) {
    blamed_ends_ -= ends_.front().blamed ? 1 : 0;
    ends_.pop_front();
  }
  if (blamed && !ever_answered_ && ++silent_lives_ > max_early_retries)
    return give_up(ServerState::failed);
  if (ends_.size() > rule_.count) return give_up(ServerState::quarantined);
  state_ = ServerState::waiting;
  plan(Action::spawn, now_ns + delay_ns(blamed));
}

std::uint64_t ServerMachine::delay_ns(bool blamed) const {
  // Whoever kills a server again and again before it answers must not get a storm of starts.
  if (!blamed) return answered_ ? 0 : rule_.first_delay_ns;
  if (blamed_ends_ < 2) return 0;
  constexpr std::uint32_t most_doublings = 20;
  const std::uint32_t doublings = std::min(blamed_ends_ - 2, most_doublings);
  return std::min(rule_.first_delay_ns << doublings, rule_.max_delay_ns);
}

bool ServerMachine::restart(std::uint64_t now_ns) {
  if (state_ == ServerState::stopping || state_ == ServerState::stopped) return false;
  ends_.clear();
  blamed_ends_ = silent_lives_ = 0;
  if (!alive_) {
    state_ = ServerState::waiting;
    plan(Action::spawn, now_ns);
    return true;
  }
  restarting_ = true;
  if (!std::exchange(ending_, true)) plan(Action::terminate, now_ns);
  return true;
}

void ServerMachine::found_down() {
  last_end_ = "given up before the supervisor was restarted";
  give_up(ServerState::quarantined);
}

void ServerMachine::stop(std::uint64_t now_ns) {
  if (ended() || state_ == ServerState::stopping) return;
  if (!alive_) {
    state_ = ServerState::stopped;
    plan(Action::none, 0);
    return;
  }
  state_ = ServerState::stopping;
  // One that is already being ended for a hang keeps its earlier SIGKILL.
  if (!ending_) plan(Action::terminate, now_ns);
  ending_ = true;
}

Action ServerMachine::step(std::uint64_t now_ns) {
  if (next_ == Action::none || now_ns < due_ns_) return Action::none;
  const Action action = next_;
  if (action == Action::terminate)
    plan(Action::kill, now_ns + timing_.stop_timeout_ns);
  else
    plan(Action::none, 0);
  return action;
}

}  // namespace aios::supervisor
