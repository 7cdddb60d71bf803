#include "tools/aiosctl/instances/run_program.hpp"

#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "abi/runtime/cgroup.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/instances/confined_program.hpp"

namespace aios::ctl {

namespace {

namespace pk = proto::kernel;
using proto::sandbox::Profile;

constexpr int exit_cannot_run = 127;
/// From SIGTERM to SIGKILL when the job has ended before the program.
constexpr std::uint64_t end_timeout_ns = 2 * ns_per_s;
constexpr std::uint32_t max_cpu_millis = 4'096'000;
/// With less no program begins.
constexpr std::uint64_t min_memory_bytes = 4u << 20;

void say(const std::string& text) {
  print_to(stderr, "aiosctl: {}\n", printable(text));
}

Result<pk::Quota> quota_of(const RunOptions& options) {
  pk::Quota quota{};
  quota.processes = options.processes;
  if (!options.memory.empty()) {
    quota.memory_bytes = parse_size(options.memory);
    if (quota.memory_bytes < min_memory_bytes)
      return error(
          Code::invalid_argument,
          "--memory takes a size such as 64M or 2G, at least 4M, not '" + options.memory +
              (quota.memory_bytes == 0 ? "'" : "', which is " + human_bytes(quota.memory_bytes)));
  }
  if (!options.cpus.empty()) {
    quota.cpu_millis = parse_cpus(options.cpus);
    if (quota.cpu_millis == 0)
      return error(Code::invalid_argument,
                   "--cpus takes a number of cores from 0.01 on, such as 0.5 or 2, not '" +
                       options.cpus + "'");
  }
  return quota;
}

std::uint32_t bits_of(const pk::Quota& quota) {
  return (quota.memory_bytes != 0 ? pk::enforced::memory : 0u) |
         (quota.cpu_millis != 0 ? pk::enforced::cpu : 0u) |
         (quota.processes != 0 ? pk::enforced::processes : 0u);
}

std::string names_of(std::uint32_t limits) {
  std::string names;
  const auto add = [&](std::uint32_t bit, const char* name) {
    if ((limits & bit) != 0) names += (names.empty() ? "" : ", ") + std::string(name);
  };
  add(pk::enforced::memory, "--memory");
  add(pk::enforced::cpu, "--cpus");
  add(pk::enforced::processes, "--processes");
  return names;
}

/// A job that was there before keeps its quota; another one that is asked for would be a lie.
Result<void> check_quota(const pk::JobRecord& job, const pk::Quota& asked) {
  const bool same = (asked.memory_bytes == 0 || asked.memory_bytes == job.quota.memory_bytes) &&
                    (asked.cpu_millis == 0 || asked.cpu_millis == job.quota.cpu_millis) &&
                    (asked.processes == 0 || asked.processes == job.quota.processes);
  if (same) return {};
  return error(Code::already_exists,
               fmt::format("job '{}' exists already, with another quota (aiosctl jobs); choose "
                           "another --job, or leave the limits out to join it",
                           job.name.view()));
}

/// What is asked for and not given by Linux: said, or refused.
Result<void> check_enforced(std::uint32_t without, bool strict) {
  if (without == 0) return {};
  const std::string what = names_of(without) + " cannot be enforced here: this instance has no " +
                           "control group for it (STATE/logs/kernel.log says why)";
  if (strict) return error(Code::not_supported, what);
  say(what + ((without & pk::enforced::memory) == 0
                  ? "; going on without"
                  : "; shared memory is limited all the same, and each process to that size"));
  return {};
}

/// Root is an operator of everybody's instance, whatever he is locked in: the kernel of another
/// user cannot see that.
Result<void> check_user(Kernel& kernel) {
  const std::uint32_t owner = TRY(kernel.call<pk::InstanceInfo>({})).reply.uid;
  if (::geteuid() != 0 || owner == 0) return {};
  return error(Code::denied, "root's programs are not confined against an instance of uid " +
                                 std::to_string(owner) + ": run it as that user");
}

/// Moves this process into the job's control group. False, said, when Linux does not let the kernel
/// of an ordinary user: it may move processes only within the part of the tree that it was given.
Result<bool> join_group(const Session& session, AttachOptions attach, bool strict) {
  attach.confine = true;
  // The attachment itself ends with the exec; the parent's keeps the job.
  const Result<Operator> joined = Operator::attach(session, attach);
  if (joined) return true;
  if (joined.error().code() != Code::denied || strict) return std::unexpected(joined.error());
  say("this program cannot be held to its limits: " + joined.error().message() +
      "; start it beside the instance: systemd-run --user --scope aiosctl run ...");
  return false;
}

/// In the child: joins the job's control group. What is not 0 is to be its exit code.
int prepare(const Session& session, const RunOptions& options, const AttachOptions& attach,
            std::uint32_t enforced) {
  if (enforced != 0) {
    const Result<bool> joined = join_group(session, attach, options.strict);
    if (!joined) {
      (void)report(joined.error());
      return exit_cannot_run;
    }
    if (!*joined) enforced = 0;
  }
  if (attach.quota.memory_bytes != 0 && (enforced & pk::enforced::memory) == 0) {
    const rlimit limit{attach.quota.memory_bytes, attach.quota.memory_bytes};
    ::setrlimit(RLIMIT_DATA, &limit);
  }
  return 0;
}

/// The child becomes the program.
[[noreturn]] void become(const RunOptions& options, const sigset_t& mask) {
  std::vector<char*> arguments;
  for (const std::string& word : options.command)
    arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  ::execvp(arguments[0], arguments.data());
  say("cannot run " + options.command[0] + ": " + std::strerror(errno));
  ::_exit(exit_cannot_run);
}

/// `environment` is that of a program in a sandbox; `mask`: that of the program.
Result<pid_t> start(const Session& session, const RunOptions& options,
                    std::vector<std::string> environment, const std::function<int()>& prepared,
                    const sigset_t& mask) {
  std::fflush(nullptr);
  if (!options.sandbox.empty()) {
    const auto profile = proto::sandbox::profile_of(options.sandbox).value_or(Profile::tool);
    return start_confined(options.command,
                          {.profile = profile,
                           .socket = profile == Profile::tool ? session.socket : "",
                           .read = options.read,
                           .write = options.write,
                           .environment = std::move(environment),
                           .strict = options.strict},
                          prepared);
  }
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("cannot run " + options.command[0], errno);
  if (pid != 0) return pid;
  if (const int refused = prepared(); refused != 0) ::_exit(refused);
  become(options, mask);
}

/// Passes signals on until the child has ended; ends it when the job is over.
Result<int> wait_for(pid_t pid, int signals, int job) {
  Deadline kill_at = Deadline::never();
  bool job_over = false;
  for (;;) {
    pollfd events[2] = {{signals, POLLIN, 0}, {job_over ? -1 : job, POLLRDHUP, 0}};
    if (::poll(events, 2, kill_at.poll_timeout_ms()) < 0 && errno != EINTR)
      return errno_error("wait for the program", errno);
    if (!kill_at.is_never() && kill_at.passed()) {
      ::kill(pid, SIGKILL);
      kill_at = Deadline::never();
    }
    if (events[1].revents != 0) {
      job_over = true;
      say("the job has ended: it was killed, or the instance is gone; ending the program");
      ::kill(pid, SIGTERM);
      kill_at = Deadline::after(end_timeout_ns);
    }
    signalfd_siginfo info{};
    if (events[0].revents == 0 || ::read(signals, &info, sizeof info) != sizeof info) continue;
    if (info.ssi_signo != SIGCHLD) {
      // The terminal sends its signals to the whole foreground group, the child included.
      if (info.ssi_code != SI_KERNEL) ::kill(pid, static_cast<int>(info.ssi_signo));
      continue;
    }
    int status = 0;
    if (::waitpid(pid, &status, WNOHANG) != pid) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
}

/// Why the program may have ended or failed, as far as its quota is to blame.
void explain_end(const pk::JobRecord& before, const pk::JobRecord& after) {
  if (after.memory_kills != before.memory_kills)
    say(
        fmt::format("Linux ended {} of job '{}': it used up its {} of memory; allow more with "
                    "--memory",
                    after.memory_kills - before.memory_kills == 1 ? "a process" : "processes",
                    after.name.view(), human_bytes(after.quota.memory_bytes)));
  if (after.refused_forks != before.refused_forks)
    say(fmt::format(
        "job '{}' was refused {} processes or threads: it may have {}; allow more with "
        "--processes",
        after.name.view(), after.refused_forks - before.refused_forks, after.quota.processes));
}

/// Inside a sandbox links lead nowhere.
std::string socket_path(const Session& session, bool real) {
  std::error_code failed;
  const auto path = real ? std::filesystem::canonical(session.socket, failed)
                         : std::filesystem::absolute(session.socket, failed);
  return failed ? std::string(session.socket) : path.string();
}

}  // namespace

std::uint32_t parse_cpus(const std::string& text) {
  double cores = 0;
  const auto [end, failure] =
      std::from_chars(text.data(), text.data() + text.size(), cores, std::chars_format::fixed);
  if (failure != std::errc() || end != text.data() + text.size()) return 0;
  const double millis = cores * 1000 + 0.5;
  if (!(millis >= cgroup::min_cpu_millis) || millis > max_cpu_millis) return 0;
  return static_cast<std::uint32_t>(millis);
}

Result<int> run_program(const Session& session, const RunOptions& options) {
  AttachOptions attach;
  attach.job_name = options.job.empty() ? fmt::format("run-{}", ::getpid()) : options.job;
  const Result<pk::Quota> quota = quota_of(options);
  ::setenv("AIOS_SOCKET", socket_path(session, !options.sandbox.empty()).c_str(), 1);
  ::setenv("AIOS_JOB", attach.job_name.c_str(), 1);
  Result<std::vector<std::string>> environment;
  if (!options.sandbox.empty()) environment = shown_environment(options.environment);
  if (!quota || !environment) {
    say(quota ? environment.error().message() : quota.error().message());
    return exit_usage;
  }
  attach.quota = *quota;
  // Held open for as long as the program runs: the job dies with its last attachment.
  Operator attached = TRY(Operator::attach(session, attach));
  const auto look = [&]() -> Result<pk::JobRecord> {
    return TRY(attached.kernel().call<pk::JobInfo>({attached.kernel().job()})).reply;
  };
  const bool calls_aios = options.sandbox != proto::sandbox::profile_name(Profile::streaming);
  if (!options.sandbox.empty() && calls_aios) TRY(check_user(attached.kernel()));
  const pk::JobRecord job = TRY(look());
  TRY(check_quota(job, attach.quota));
  TRY(check_enforced(bits_of(attach.quota) & ~job.enforced, options.strict));

  sigset_t forwarded;
  ::sigemptyset(&forwarded);
  for (const int number :
       {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM})
    ::sigaddset(&forwarded, number);
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, &forwarded, &before);
  const Fd signals(::signalfd(-1, &forwarded, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals.valid()) return errno_error("make signal descriptor", errno);
  const pid_t pid = TRY(start(
      session, options, *std::move(environment),
      [&] { return prepare(session, options, attach, job.enforced); }, before));
  const int code = TRY(wait_for(pid, signals.get(), attached.kernel().socket_fd()));
  // Nothing to explain when the kernel is gone.
  if (const auto end = look()) explain_end(job, *end);
  return code;
}

}  // namespace aios::ctl
