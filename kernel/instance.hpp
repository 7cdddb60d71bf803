// The instance: the root job, everything in the registry, the published ports, the supervisor, and
// what happens when a process begins or ends. The event loop calls in when one has ended.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernel/process.hpp"

namespace aios::kernel {

struct Settings {
  std::filesystem::path state;  ///< absolute
  std::filesystem::path socket;
  std::string supervisor;  ///< path of its image
  std::vector<std::string> supervisor_arguments;
  bool control_groups = false;  ///< jobs with a quota get one each, where the host allows
};

class Instance {
 public:
  /// Tags of epoll events: a process's id for its socket, with this bit for its or a helper's
  /// pidfd.
  static constexpr std::uint64_t pidfd_bit = 1ull << 63;
  /// `epoll` watches the processes; it must outlive this.
  Instance(Settings options, const Fd& epoll);
  /// Kills and reaps every process. Waits for them.
  ~Instance();

  struct SpawnRequest {
    const SpawnImage& image;
    std::shared_ptr<Job> job;
    Name name{};
    std::vector<std::string> arguments{};
    std::vector<std::pair<std::string, Reference>> startup{};  ///< by label
  };
  /// Starts a child with its startup handles and those its job keeps. quota; denied; what Linux
  /// says. On failure nothing remains.
  Result<std::shared_ptr<Process>> spawn(SpawnRequest request);
  /// A connection to the instance's socket: denied unless it is an operator's, or users are let in;
  /// it has no job before it says hello.
  Result<void> attach(Fd socket);
  /// Puts an attached process into its job and gives it its startup handles.
  Result<void> enter(Process& process, const proto::kernel::Hello::Request& request);
  /// A new child, with a control group if its quota asks for what that limits, or if programs from
  /// outside are to be in it and there is a group above: what is left of them ends with the job.
  Result<std::shared_ptr<Job>> make_job(Job& parent, const Name& name, const Quota& quota,
                                        bool for_programs = false);
  /// The child of that name, or a new one.
  Result<std::shared_ptr<Job>> child_job(Job& parent, const Name& name, const Quota& quota = {},
                                         bool for_programs = false);
  /// Has the control groups of ended jobs removed, and what is left in them killed.
  void remove_groups();

  /// Ends a process: SIGKILL for a child, whose pidfd then tells; at once for an outside one.
  void kill(Process& process);
  void kill_job(Job& job);
  /// The pidfd of a child, or the connection of an outside program, says that it is gone.
  void bury(const std::shared_ptr<Process>& process);
  /// A child closed its connection, or broke the protocol.
  void disconnect(Process& process);
  /// Whether calls are read from the process's socket, or only its end is noticed.
  void listen_for_calls(Process& process, bool wanted);

  /// Calls `end` when a short-lived child has ended, which does what may take long.
  using HelperEnd = std::function<void(const sys::ExitStatus&)>;
  void add_helper(sys::Child child, HelperEnd end);
  /// Its pidfd says so. Nothing if it is a process's that went earlier in this turn.
  void end_helper(std::uint64_t id);

  Result<void> start_supervisor();
  /// Raises `shutdown`, once.
  void begin_shutdown();
  /// Kills the supervisor, which ends a shutdown that has begun.
  void hurry_shutdown();
  /// When the supervisor will be killed, if it has not ended by then; none: no shutdown is pending.
  const std::optional<Deadline>& shutdown_deadline() const { return shutdown_deadline_; }
  /// Set when the loop is to end, with the exit code.
  const std::optional<int>& finished() const { return finished_; }

  const Settings settings;
  std::optional<cgroup::Tree> groups;  ///< made when first needed; outlives the jobs
  Registry registry;
  std::shared_ptr<Job> root;
  std::map<std::string, Reference, std::less<>> published;  ///< ports, by label
  const bool namespaces_work;
  bool peers_have_pidfds = false;  ///< learnt from each peer
  const std::uint64_t started_ns;
  std::uint64_t supervisor_restarts = 0;
  const uid_t own_uid;
  proto::kernel::InstanceConfigure::Request configuration{
      .user_quota = {.links = limits::links_per_user},
      .shutdown_timeout_ns = limits::shutdown_timeout_ns};

 private:
  Result<void> launch(Process& process, SpawnRequest& request);
  Result<void> watch(const std::shared_ptr<Process>& process);
  void on_supervisor_exit(const sys::ExitStatus& status);

  const Fd& epoll_;
  Fd null_;
  std::map<std::uint64_t, std::pair<sys::Child, HelperEnd>> helpers_;
  std::shared_ptr<Process> supervisor_;
  std::deque<std::uint64_t> supervisor_deaths_ns_;
  std::optional<Deadline> shutdown_deadline_;
  std::optional<int> finished_;
};

}  // namespace aios::kernel
