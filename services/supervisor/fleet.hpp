// All servers of the instance together: who is to be started, ended and stopped when. Pure, as the
// machines it is made of.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "services/supervisor/plan.hpp"
#include "services/supervisor/server_machine.hpp"

namespace aios::supervisor {

class Fleet {
 public:
  explicit Fleet(const Plan& plan);

  std::size_t size() const { return machines_.size(); }
  ServerMachine& machine(std::size_t index) { return machines_[index]; }
  const ServerMachine& machine(std::size_t index) const { return machines_[index]; }

  struct Due {
    std::size_t server;
    Action action;
  };
  /// The next action that is due, in start order; to be called until there is none. After stop()
  /// a server is asked to stop once all that need it have ended.
  std::optional<Due> step(std::uint64_t now_ns);
  /// When step() will have something without any event.
  std::uint64_t wake_ns() const;

  /// Nobody is started any more. Servers are asked to stop, in order, when each that is alive has
  /// drained, or at `drain_until_ns`.
  void stop(std::uint64_t drain_until_ns);
  /// The work that the server had is done.
  void drained(std::size_t index) { draining_[index] = false; }
  bool stopping() const { return stopping_; }
  /// Every server has ended.
  bool ended() const;
  bool all_running() const;
  std::optional<std::size_t> first_given_up() const;

 private:
  bool is_draining(std::uint64_t now_ns) const;

  std::vector<std::vector<std::size_t>> needed_by_;
  std::vector<ServerMachine> machines_;
  bool stopping_ = false;
  std::uint64_t drain_until_ns_ = 0;
  std::vector<bool> draining_;
};

}  // namespace aios::supervisor
