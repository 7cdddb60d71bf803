// Runs the servers of a manifest: spawns, watches, asks for signs of life, restarts, stops. What to
// do when is decided by the Fleet; this feeds it what happened and carries out what it says.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "abi/proto/supervisor.hpp"
#include "abi/runtime/client.hpp"
#include "abi/runtime/event_loop.hpp"
#include "services/supervisor/fleet.hpp"
#include "services/supervisor/server_objects.hpp"

namespace aios::supervisor {

class Supervisor {
 public:
  /// `store` and `loop` outlive it.
  Supervisor(ObjectStore& store, EventLoop& loop, const Plan& plan);
  Supervisor(const Supervisor&) = delete;
  ~Supervisor();

  /// Finds or makes every server's objects, publishes ports, takes over servers that live and
  /// starts the others. `own_port` is the supervisor's, for routes and programs from outside.
  /// Afterwards it works inside the loop, which it stops when the instance is
  /// to shut down and every server has ended.
  Result<void> start(Handle own_port);

  /// Called after anything changed that wait_running or a listing would show.
  void on_change(std::function<void()> callback) { on_change_ = std::move(callback); }

  const Fleet& fleet() const { return fleet_; }
  /// not_found beyond the last server.
  Result<proto::supervisor::Server::Reply> describe(std::uint64_t index) const;
  /// Sends the signal and tells the pid. not_found; busy when the server is not running.
  Result<std::uint64_t> crash(std::string_view server, int signal_number);
  /// Begins the next life of a server: its index. not_found; busy during a shutdown.
  Result<std::size_t> restart(std::string_view server);
  /// "server 'x' has failed to start: exited with code 1, saying: ...; see PATH of its log"
  std::string failure_of(std::size_t index) const;

 private:
  struct Entry {
    ServerSpec spec;
    ServerObjects objects;
    ServerProcessRef process;
    std::unique_ptr<Client> client;  ///< for null calls
    std::uint64_t log_from = 0;      ///< where this life's lines begin
    std::string last_words;          ///< of the life that ended last
    bool port_down = false;
    std::uint64_t life = 0;  ///< answers to calls of an earlier life are not counted
    bool asked = false;      ///< a null call is under way
  };

  Result<void> prepare(std::size_t index);
  void begin_stop();
  /// Has act() run soon, outside of whatever callback this is called from.
  void changed();
  void act();
  void carry_out(std::size_t index, Action action);
  void spawn(std::size_t index);
  void update_port(std::size_t index);
  std::string log_of(std::size_t index) const;
  /// Of a server in a living instance: how an operator starts it again.
  std::string revival_of(std::size_t index) const;
  Result<std::size_t> index_of(std::string_view server) const;
  void begin_life(std::size_t index, const ServerProcessRef& process);
  void process_exited(std::size_t index);
  void send_signal(std::size_t index, int signal_number);
  void ask(std::size_t index);
  void answer(std::size_t index, std::uint64_t asked_ns, const Result<proto::Empty>& reply);
  void ask_all();

  ObjectStore& store_;
  EventLoop& loop_;
  Timing timing_;
  Fleet fleet_;
  std::vector<Entry> entries_;
  std::map<std::string, Handle> ports_;  ///< by server, for routes
  std::function<void()> on_change_;
  bool act_posted_ = false;
  TimerId act_timer_ = 0;
  TimerId heartbeat_timer_ = 0;
};

}  // namespace aios::supervisor
