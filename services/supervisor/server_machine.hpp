// What is to be done about one server, and when. Pure: events and times come in as values, actions
// come out of step().
//
//   waiting ──spawn──► starting ──first answer──► running
//      ▲                  │                          │
//      └──────────────────┴──────── it ended ────────┘      stop: ► stopping ► stopped
//
// A server that ends is started again, by the rule of the manifest: after its first end within the
// window at once, then after a delay that doubles. A SIGKILL from outside is not the server's
// doing: it delays the next life by the first delay if this one had not answered, otherwise not at
// all. Whatever they came of, more ends within the window than the rule allows restarts put the
// server into quarantine. A server none of whose lives ever answered is `failed` after
// `max_early_retries` retries. Only restart() brings either back.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <string>

#include "abi/proto/supervisor.hpp"
#include "services/supervisor/manifest.hpp"

namespace aios::supervisor {

using proto::supervisor::ServerState;

inline constexpr std::uint32_t max_early_retries = 3;
inline constexpr std::uint64_t never_ns = std::numeric_limits<std::uint64_t>::max();

/// What the owner of the machine must do now.
enum class Action {
  none,
  spawn,      ///< then call spawned() or spawn_failed()
  terminate,  ///< send SIGTERM
  kill,       ///< send SIGKILL
};

struct Exit {
  std::int32_t code = 0;  ///< exit code, or the signal
  bool signalled = false;
};

class ServerMachine {
 public:
  ServerMachine(const Timing& timing, const RestartRule& rule) : timing_(timing), rule_(rule) {}

  // Events.
  /// A life begins, the `epoch`th of this server (1, 2, ...); also for one that an earlier
  /// supervisor began and this one found alive.
  void spawned(std::uint64_t now_ns, std::uint64_t epoch);
  /// It could not be spawned; counts as a life that ended before it answered.
  void spawn_failed(std::uint64_t now_ns, std::string why);
  void answered(std::uint64_t took_ns);
  void missed(std::uint64_t now_ns);
  void exited(std::uint64_t now_ns, const Exit& exit);
  /// The instance shuts down.
  void stop(std::uint64_t now_ns);
  /// An operator's wish: what runs is ended and started again, what was given up is started, and
  /// all ends are forgotten. False during a stop.
  bool restart(std::uint64_t now_ns);
  /// An earlier supervisor had given it up.
  void found_down();

  /// The action that is due; to be called until it returns none.
  Action step(std::uint64_t now_ns);
  /// When step() will have one; never_ns when only an event can bring it.
  std::uint64_t wake_ns() const { return next_ == Action::none ? never_ns : due_ns_; }

  ServerState state() const { return state_; }
  bool alive() const { return alive_; }
  /// An operator wished it, and it has not ended yet.
  bool restarting() const { return restarting_; }
  /// No process, and none will come by itself.
  bool ended() const { return state_ == ServerState::stopped || given_up(); }
  bool given_up() const {
    return state_ == ServerState::failed || state_ == ServerState::quarantined;
  }
  /// The last life was ended by somebody else, not by itself or by a request that it served.
  bool last_end_from_outside() const { return last_end_from_outside_; }
  std::uint32_t restarts() const {
    return epoch_ == 0 ? 0 : static_cast<std::uint32_t>(epoch_ - 1);
  }
  std::uint64_t epoch() const { return epoch_; }
  std::uint32_t missed_heartbeats() const { return missed_; }
  std::uint64_t heartbeat_ns() const { return heartbeat_ns_; }
  /// "killed by signal 9", "exited with code 1"; empty when it never ended.
  const std::string& last_end() const { return last_end_; }

 private:
  void plan(Action action, std::uint64_t due_ns) {
    next_ = action;
    due_ns_ = due_ns;
  }
  void life_over(std::uint64_t now_ns, bool blamed);
  void give_up(ServerState state) {
    state_ = state;
    plan(Action::none, 0);
  }
  std::uint64_t delay_ns(bool blamed) const;

  Timing timing_;
  RestartRule rule_;
  ServerState state_ = ServerState::waiting;
  Action next_ = Action::spawn;
  std::uint64_t due_ns_ = 0;
  bool alive_ = false;
  bool ending_ = false;         ///< this life was sent SIGTERM or SIGKILL by us
  bool restarting_ = false;     ///< because an operator wished it
  bool answered_ = false;       ///< in this life
  bool ever_answered_ = false;  ///< in any
  std::uint64_t epoch_ = 0;
  std::uint64_t born_ns_ = 0;
  struct End {
    std::uint64_t at_ns;
    bool blamed;
  };
  std::deque<End> ends_;            ///< within the window
  std::uint32_t blamed_ends_ = 0;   ///< of those
  std::uint32_t silent_lives_ = 0;  ///< that ended by their own doing before any answered
  bool last_end_from_outside_ = false;
  std::uint32_t missed_ = 0;  ///< in a row
  std::uint64_t heartbeat_ns_ = 0;
  std::string last_end_;
};

}  // namespace aios::supervisor
