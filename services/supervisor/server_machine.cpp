#include "services/supervisor/server_machine.hpp"

#include <algorithm>
#include <cassert>
#include <csignal>

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
  const bool from_outside = exit.signalled && exit.code == SIGKILL && !ending_;
  life_over(now_ns, !from_outside);
}

void ServerMachine::life_over(std::uint64_t now_ns, bool blamed) {
  const bool early = !answered_ || now_ns - born_ns_ < early_end_ns;
  if (!early)
    early_ends_ = 0;
  else if (blamed)
    ++early_ends_;
  if (!ever_answered_ && early_ends_ > max_early_retries) {
    state_ = ServerState::failed;
    plan(Action::none, 0);
    return;
  }
  std::uint64_t delay_ns = 0;
  if (!blamed) {
    // Whoever kills a server again and again before it answers must not get a storm of starts.
    delay_ns = answered_ ? 0 : first_delay_ns;
  } else if (early_ends_ > 1) {
    constexpr std::uint32_t most_doublings = 7;  // 50 ms << 7 is above max_delay_ns
    delay_ns = std::min(first_delay_ns << std::min(early_ends_ - 2, most_doublings), max_delay_ns);
  }
  state_ = ServerState::waiting;
  plan(Action::spawn, now_ns + delay_ns);
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
