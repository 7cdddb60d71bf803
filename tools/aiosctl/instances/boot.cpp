#include "tools/aiosctl/instances/boot.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>

#include "abi/proto/supervisor.hpp"
#include "abi/runtime/signals.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/install_paths.hpp"
#include "tools/aiosctl/common/log_tail.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/instances/notify.hpp"

namespace aios::ctl {

namespace {

namespace ps = proto::supervisor;

constexpr std::uint64_t boot_timeout_ns = 60 * ns_per_s;
constexpr int look_interval_ms = 5;
/// Beyond what the instance itself allows its shutdown.
constexpr std::uint64_t stop_margin_ns = 5 * ns_per_s;
constexpr const char* default_group = "aios";
constexpr std::size_t shown_log_lines = 20;

/// The child's side of the start: only calls that are safe after fork.
[[noreturn]] void become_kernel(char* const* arguments, int log, bool detach, pid_t parent) {
  ::setsid();
  if (!detach) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
  }
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv(arguments[0], arguments);
  ::dprintf(STDERR_FILENO, "cannot run %s: errno %d\n", arguments[0], errno);
  ::_exit(127);
}

/// The kernel process as its parent sees it. Ends it when destroyed while it still runs, unless
/// released.
class KernelProcess {
 public:
  static Result<KernelProcess> start(std::vector<std::string> command, const std::string& log,
                                     bool detach);
  KernelProcess(KernelProcess&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)), pidfd_(std::move(other.pidfd_)), exit_(other.exit_) {}
  ~KernelProcess() {
    if (pid_ != 0) (void)stop();
  }

  /// Readable when the process has ended.
  int pidfd() const { return pidfd_.get(); }
  pid_t pid() const { return pid_; }
  void release() { pid_ = 0; }
  /// Asks it to end and waits; once more when there is one of `signals` (-1: none). SIGKILL after
  /// `timeout_ns`, which is timed_out.
  Result<void> stop(int signals = -1, std::uint64_t timeout_ns = 10 * ns_per_s + stop_margin_ns);
  /// Waits for its end: the exit code, or 128 + the signal that killed it.
  int reap();

 private:
  KernelProcess() = default;
  pid_t pid_ = 0;
  Fd pidfd_;
  int exit_ = 0;
};

Result<KernelProcess> KernelProcess::start(std::vector<std::string> command, const std::string& log,
                                           bool detach) {
  const Fd log_file(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log_file.valid()) return errno_error("open " + log, errno);
  std::vector<char*> arguments;
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  KernelProcess process;
  const pid_t self = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("start aios-kernel", errno);
  if (pid == 0) become_kernel(arguments.data(), log_file.get(), detach, self);
  process.pid_ = pid;
  process.pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process.pidfd_.valid()) return errno_error("watch aios-kernel", errno);
  return process;
}

Result<void> KernelProcess::stop(int signals, std::uint64_t timeout_ns) {
  ::kill(pid_, SIGTERM);
  pollfd events[2] = {{pidfd_.get(), POLLIN, 0}, {signals, POLLIN, 0}};
  const Deadline deadline = Deadline::after(timeout_ns);
  while (!deadline.passed()) {
    const int count = ::poll(events, 2, deadline.poll_timeout_ms());
    if (count > 0 && events[0].revents != 0) break;
    signalfd_siginfo info{};
    if (count > 0 && ::read(signals, &info, sizeof info) == sizeof info) ::kill(pid_, SIGTERM);
  }
  const bool late = events[0].revents == 0;
  if (late) ::kill(pid_, SIGKILL);
  (void)reap();
  if (!late) return {};
  return error(Code::timed_out,
               "the kernel did not stop within " + human_duration(timeout_ns) + " and was killed");
}

int KernelProcess::reap() {
  if (pid_ == 0) return exit_;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
  exit_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return exit_;
}

/// Looks at an instance that is starting until all its servers run.
class Progress {
 public:
  Progress(const Session& session, pid_t kernel)
      : session_(session), kernel_(kernel), begin_ns_(now_ns()) {}

  /// One look; never blocks for long. True when everything runs; an error when it never will.
  Result<bool> look();
  std::uint64_t elapsed_ns() const { return now_ns() - begin_ns_; }

 private:
  Result<bool> connect();
  Result<void> show_servers();

  const Session& session_;
  const pid_t kernel_;
  std::uint64_t begin_ns_;
  std::optional<Result<void>> answer_;
  bool asked_ = false;
  std::set<std::string> shown_;
  // Last: its calls in flight end with it, and write the answer.
  std::optional<Operator> operator_;
  std::unique_ptr<Client> supervisor_;
};

/// Attaches anew until the supervisor's port is among what an attachment is given.
Result<bool> Progress::connect() {
  if (supervisor_ != nullptr) return true;
  Result<Operator> attached = Operator::attach(session_);
  if (!attached && attached.error().code() == Code::version_mismatch)
    return std::unexpected(attached.error());
  if (!attached || !attached->kernel().startup("supervisor")) return false;
  // Another instance may be first at this socket: ours ends then.
  const auto instance = attached->kernel().call<proto::kernel::InstanceInfo>({});
  if (!instance || static_cast<pid_t>(instance->reply.pid) != kernel_) return false;
  operator_ = *std::move(attached);
  Result<std::unique_ptr<Client>> client =
      operator_->client(ps::Protocol::name, ps::Protocol::version);
  if (!client) return false;
  supervisor_ = *std::move(client);
  return true;
}

Result<bool> Progress::look() {
  if (!TRY(connect())) return false;
  if (!asked_) {
    asked_ = true;
    supervisor_->start<ps::WaitRunning>({}, Deadline::after(boot_timeout_ns),
                                        [this](Result<ps::WaitRunning::Reply> reply) {
                                          if (reply)
                                            answer_ = Result<void>();
                                          else
                                            answer_ = std::unexpected(std::move(reply).error());
                                        });
  }
  TRY(show_servers());
  if (!answer_) return false;
  if (*answer_) {
    // The answer may have come while we asked for the servers, of which the first was not up then.
    TRY(show_servers());
    return true;
  }
  const Code code = answer_->error().code();
  if (code != Code::peer_closed) return std::unexpected(answer_->error());
  // The supervisor was restarted while it started the others: ask the new one.
  asked_ = false;
  answer_.reset();
  return false;
}

Result<void> Progress::show_servers() {
  std::uint32_t count = 1;
  for (std::uint32_t i = 0; i < count; ++i) {
    const Result<ps::Server::Reply> server =
        supervisor_->call<ps::Server>({i}, Deadline::after(ns_per_s));
    if (!server) {
      // Restarting or still busy: the next look tells, and WaitRunning decides.
      const Code code = server.error().code();
      if (code == Code::peer_closed || code == Code::timed_out || code == Code::not_found)
        return {};
      return std::unexpected(server.error());
    }
    count = server->count;
    const std::string name = printable(server->server.view());
    if (server->state != static_cast<std::uint32_t>(ps::ServerState::running)) continue;
    if (!shown_.insert(name).second) continue;
    print_to(stdout, "  {:<12} up after {:>8}   pid {}\n", name, human_duration(elapsed_ns()),
             server->pid);
    notify_manager(fmt::format("STATUS={} of {} servers up", shown_.size(), count));
    std::fflush(stdout);
  }
  return {};
}

struct Logs {
  std::string path;
  std::uint64_t from;  ///< what was there before this boot is of no interest
};

void show_logs(const std::vector<Logs>& logs) {
  for (const Logs& log : logs) {
    const Result<std::string> tail = log_tail(log.path, shown_log_lines, log.from);
    if (!tail || tail->empty()) continue;
    print_to(stderr, "--- end of {}\n{}{}", log.path, *tail, tail->ends_with('\n') ? "" : "\n");
  }
}

enum class Outcome { up, ended, interrupted };

/// Waits for the instance to be up, to end, or for a signal to us.
Result<Outcome> wait_until_up(const KernelProcess& kernel, int signals, const Session& session) {
  Progress progress(session, kernel.pid());
  for (;;) {
    pollfd fds[2] = {{kernel.pidfd(), POLLIN, 0}, {signals, POLLIN, 0}};
    if (::poll(fds, 2, look_interval_ms) < 0 && errno != EINTR)
      return errno_error("wait for aios-kernel", errno);
    if (fds[0].revents != 0) return Outcome::ended;
    if (fds[1].revents != 0) return Outcome::interrupted;
    if (TRY(progress.look())) return Outcome::up;
    if (progress.elapsed_ns() > boot_timeout_ns)
      return error(Code::timed_out, "the servers did not all answer within 60 s");
  }
}

/// The number of the group whose members may use a system instance.
Result<gid_t> group_of(const BootOptions& options) {
  if (::geteuid() != 0)
    return error(Code::denied,
                 "--system starts the instance of all users, and only root can do that; without "
                 "it you get one of your own");
  const std::string name = options.group.empty() ? default_group : options.group;
  if (const group* found = ::getgrnam(name.c_str())) return found->gr_gid;
  if (options.group.empty()) return 0;
  return error(Code::not_found, "there is no group '" + name + "'; make one: groupadd --system " +
                                    name + ", and add users to it");
}

Result<std::vector<std::string>> kernel_command(const Session& session,
                                                const BootOptions& options) {
  const std::string libexec = TRY(find_libexec());
  const std::string manifest =
      options.manifest.empty() ? TRY(find_manifest(session.state, libexec)) : options.manifest;
  if (::access(manifest.c_str(), R_OK) != 0) return errno_error("read manifest " + manifest, errno);
  std::vector<std::string> command{libexec + "/aios-kernel",
                                   "--state",
                                   session.state,
                                   "--socket",
                                   session.socket,
                                   "--supervisor",
                                   libexec + "/aios-supervisor",
                                   "--manifest",
                                   manifest,
                                   "--libexec",
                                   libexec};
  if (options.system) {
    command.emplace_back("--group");
    command.push_back(std::to_string(TRY(group_of(options))));
  }
  return command;
}

/// The folders of the state, which are the owner's alone, and of the socket, into which others
/// look.
Result<void> make_folders(const Session& session) {
  const std::filesystem::path socket_folder = std::filesystem::path(session.socket).parent_path();
  std::error_code failure;
  if (std::filesystem::create_directories(session.state, failure))
    ::chmod(session.state.c_str(), 0700);
  if (!failure && std::filesystem::create_directories(socket_folder, failure))
    ::chmod(socket_folder.c_str(), 0755);
  if (!failure) std::filesystem::create_directories(session.state + "/logs", failure);
  if (!failure) return {};
  return error(Code::io_error, "cannot make the folders of " + session.state + " and " +
                                   session.socket + ": " + failure.message());
}

/// How long its end may take.
Result<std::uint64_t> stop_timeout_of(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const auto instance = TRY(attached.kernel().call<proto::kernel::InstanceInfo>({})).reply;
  return instance.shutdown_timeout_ns + stop_margin_ns;
}

/// Stays until the instance ends or a signal asks for its end.
Result<int> stay(KernelProcess& kernel, const Fd& signals, const std::vector<Logs>& logs,
                 std::uint64_t stop_timeout_ns) {
  pollfd fds[2] = {{kernel.pidfd(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
  while (::poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  if (fds[0].revents == 0) {
    (void)take_signal(signals);
    print_to(stdout, "\nShutting down: what runs may finish; once more to hurry\n");
    std::fflush(stdout);
    notify_manager(fmt::format("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS=waiting for what runs",
                               stop_timeout_ns / ns_per_us));
    TRY(kernel.stop(signals.get(), stop_timeout_ns));
    return exit_done;
  }
  if (kernel.reap() == 0) return exit_done;
  show_logs(logs);
  return error(Code::crashed, "AIOS ended by itself");
}

}  // namespace

Result<int> boot(const Session& session, const BootOptions& options) {
  if (Operator::attach(session))
    return error(Code::already_exists, "an instance already answers at " + session.socket +
                                           "; stop it with: aiosctl shutdown");
  const std::vector<std::string> command = TRY(kernel_command(session, options));
  TRY(make_folders(session));
  std::vector<Logs> logs;
  for (const char* name : {"kernel", "supervisor"}) {
    const std::string path = log_path(session.state, name);
    logs.push_back({path, log_size(path)});
  }
  const Fd signals = TRY(make_signal_fd({SIGINT, SIGTERM, SIGHUP}));

  KernelProcess kernel = TRY(KernelProcess::start(command, logs[0].path, options.detach));
  const Result<Outcome> outcome = wait_until_up(kernel, signals.get(), session);
  if (outcome && *outcome == Outcome::up) {
    print_to(stdout, "AIOS is up: {}\n", session.socket);
    std::fflush(stdout);
    notify_manager("READY=1\nSTATUS=serving at " + session.socket);
    if (!options.detach) return stay(kernel, signals, logs, TRY(stop_timeout_of(session)));
    kernel.release();
    return exit_done;
  }
  if (outcome && *outcome == Outcome::interrupted) {
    TRY(kernel.stop());
    return error(Code::cancelled, "interrupted before AIOS was up");
  }
  if (outcome) {
    show_logs(logs);
    return error(Code::crashed, "AIOS ended before it was up; why is in its logs, shown above");
  }
  (void)kernel.stop();
  // A server that does not start is named, with the reason and its log; who is late is not.
  if (outcome.error().code() == Code::timed_out) show_logs(logs);
  return std::unexpected(outcome.error());
}

}  // namespace aios::ctl
