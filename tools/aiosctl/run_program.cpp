#include "tools/aiosctl/run_program.hpp"

#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tools/aiosctl/operator.hpp"
#include "tools/aiosctl/output.hpp"

namespace aios::ctl {

namespace {

constexpr int exit_cannot_run = 127;

Result<pid_t> spawn(const std::vector<std::string>& command, const sigset_t& mask) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setsigmask(&attributes, &mask);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = 0;
  const int failure =
      ::posix_spawnp(&pid, arguments[0], nullptr, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (failure != 0) return errno_error("cannot run " + command[0], failure);
  return pid;
}

/// Forwards signals until the child has ended.
Result<int> wait_for(pid_t pid, int signals) {
  for (;;) {
    signalfd_siginfo info{};
    if (::read(signals, &info, sizeof info) != sizeof info) {
      if (errno == EINTR) continue;
      return errno_error("wait for signals", errno);
    }
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

}  // namespace

Result<int> run_program(const Session& session, const RunOptions& options) {
  AttachOptions attach;
  attach.job_name = options.job.empty() ? fmt::format("run-{}", ::getpid()) : options.job;
  if (!options.memory.empty()) {
    attach.quota.memory_bytes = parse_size(options.memory);
    if (attach.quota.memory_bytes == 0) {
      fmt::print(stderr, "aiosctl: --memory takes a size such as 64M or 2G, not '{}'\n",
                 printable(options.memory));
      return exit_usage;
    }
  }
  // Held open for as long as the program runs: the job dies with its last attachment.
  const Operator attached = TRY(Operator::attach(session, attach));
  ::setenv("AIOS_SOCKET", std::filesystem::absolute(session.socket).c_str(), 1);
  ::setenv("AIOS_JOB", attach.job_name.c_str(), 1);

  sigset_t forwarded;
  ::sigemptyset(&forwarded);
  for (const int number :
       {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM})
    ::sigaddset(&forwarded, number);
  sigset_t before;
  ::sigprocmask(SIG_BLOCK, &forwarded, &before);
  const Fd signals(::signalfd(-1, &forwarded, SFD_CLOEXEC));
  if (!signals.valid()) return errno_error("make signal descriptor", errno);
  const Result<pid_t> pid = spawn(options.command, before);
  if (!pid) {
    (void)report(pid.error());
    return exit_cannot_run;
  }
  return wait_for(*pid, signals.get());
}

}  // namespace aios::ctl
