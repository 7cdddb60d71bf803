// The instance: the root job, everything in the registry, the published ports, the supervisor, and
// what happens when a process begins or ends. It knows no event loop: that one watches processes
// for it, and calls in when one has ended.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "abi/runtime/time.hpp"
#include "kernel/job.hpp"
#include "kernel/object.hpp"
#include "kernel/process.hpp"
#include "kernel/registry.hpp"
#include "kernel/spawner.hpp"

namespace aios::kernel {

struct Settings {
  std::filesystem::path state;  ///< absolute
  std::string supervisor;       ///< path of its image
  std::vector<std::string> supervisor_arguments;
};

/// Watches the sockets and pidfds of processes.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual Result<void> watch(Process& process) = 0;
  /// From now on only its pidfd is watched.
  virtual void unwatch_socket(Process& process) = 0;
  virtual void unwatch(Process& process) = 0;
};

class Instance {
 public:
  Instance(Settings settings, Watcher& watcher);
  ~Instance();

  // ---- processes ----
  struct StartupReference {
    std::string label;
    Reference reference;
  };
  struct SpawnRequest {
    std::shared_ptr<Job> job;
    Name name;
    proto::kernel::Profile profile = proto::kernel::Profile::server;
    std::string image;
    const Fd* image_fd = nullptr;
    std::vector<std::string> arguments;
    std::vector<StartupReference> startup;
  };
  /// Starts a child with its startup handles and those its job keeps. quota; denied; what Linux
  /// says. On failure nothing remains.
  Result<std::shared_ptr<Process>> spawn(SpawnRequest request);

  /// A connection to the instance's socket: refused unless its uid is the instance's own; it has no
  /// job before it says hello.
  Result<void> attach(Fd socket);
  /// Puts an attached process into its job and gives it its startup handles.
  Result<void> enter(Process& process, const Name& job_name, const Quota& quota);

  /// Ends a process: SIGKILL for a child, whose pidfd then tells; at once for an outside one.
  void kill(Process& process);
  void kill_job(Job& job);
  /// The pidfd of a child, or the connection of an outside program, says that it is gone.
  void bury(const std::shared_ptr<Process>& process);
  /// A child closed its connection, or broke the protocol.
  void disconnect(Process& process);

  // ---- the supervisor and the end ----
  Result<void> start_supervisor();
  /// Raises `shutdown`, once.
  void begin_shutdown();
  /// Kills the supervisor, which ends a shutdown that has begun.
  void hurry_shutdown();
  /// Set when the loop is to end, with the exit code.
  const std::optional<int>& finished() const { return finished_; }
  /// When the supervisor will be killed, if it has not ended by then; none: no shutdown is pending.
  const std::optional<Deadline>& shutdown_deadline() const { return shutdown_deadline_; }
  /// Kills and reaps every process. Waits for them.
  void kill_all();

  Result<void> publish(std::string_view label, Reference port);

  Registry registry;
  std::shared_ptr<Job> root;
  const bool namespaces_work;
  bool peers_have_pidfds = false;  ///< learnt from the first peer
  const std::uint64_t started_ns;
  std::uint64_t supervisor_restarts = 0;

 private:
  Result<void> launch(Process& process, SpawnRequest& request);
  void on_supervisor_exit(const sys::ExitStatus& status);
  void drop_oldest_unnamed();

  Settings settings_;
  Watcher& watcher_;
  Fd null_;
  uid_t uid_;
  std::map<std::string, Reference, std::less<>> published_;
  std::shared_ptr<Process> supervisor_;
  std::deque<std::uint64_t> supervisor_deaths_ns_;
  std::optional<Deadline> shutdown_deadline_;
  std::optional<int> finished_;
};

}  // namespace aios::kernel
