#include "abi/runtime/sandbox/cage.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/sandbox/namespaces.hpp"

namespace aios::sandbox {

namespace {

constexpr std::size_t most_output = 64 << 10;
constexpr int not_mapped = 126;

[[noreturn]] void be_child(const CageOptions& options, const std::function<int()>& body, int go) {
  char byte = 0;
  // End of file: the parent could not map the ids, or is gone.
  if (::read(go, &byte, 1) != 1) ::_exit(not_mapped);
  if (options.namespaces && !become_mapped_root()) ::_exit(not_mapped);
  if (options.own_group) ::setpgid(0, 0);
  // As after an exec: the change of user has given its own /proc/self to root.
  ::prctl(PR_SET_DUMPABLE, 1);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::_exit(body());
}

/// Until the child and everybody else who has it has closed it.
void read_output(const Fd& output, std::string& text, Deadline deadline) {
  std::array<char, 4096> bytes;
  pollfd ready{output.get(), POLLIN, 0};
  while (!deadline.passed()) {
    if (::poll(&ready, 1, deadline.poll_timeout_ms()) <= 0) continue;
    const ssize_t n = ::read(output.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    if (text.size() < most_output) text.append(bytes.data(), static_cast<std::size_t>(n));
  }
}

}  // namespace

Result<pid_t> start_in_cage(const CageOptions& options, const std::function<int()>& body) {
  std::array<int, 2> go{};
  if (::pipe2(go.data(), O_CLOEXEC) != 0) return errno_error("make pipe", errno);
  const Fd go_read(go[0]);
  Fd go_write(go[1]);
  clone_args arguments{};
  arguments.flags = options.namespaces ? namespace_flags : 0;
  arguments.exit_signal = SIGCHLD;
  const long cloned = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (cloned < 0) return errno_error("clone", errno);
  const auto pid = static_cast<pid_t>(cloned);
  if (pid == 0) {
    go_write.reset();
    be_child(options, body, go_read.get());
  }
  if (options.own_group) ::setpgid(pid, pid);
  Result<void> mapped = options.namespaces ? map_ids(pid, options.user) : Result<void>();
  if (mapped) (void)!::write(go_write.get(), "", 1);
  go_write.reset();
  if (mapped) return pid;
  ::waitpid(pid, nullptr, 0);
  return std::unexpected(std::move(mapped).error());
}

Result<Ended> run_in_cage(bool namespaces, bool keep_user, const std::function<int(int)>& body,
                          Deadline deadline) {
  std::array<int, 2> output{};
  if (::pipe2(output.data(), O_CLOEXEC) != 0) return errno_error("make pipe", errno);
  const Fd output_read(output[0]);
  Fd output_write(output[1]);
  const CageOptions options{.namespaces = namespaces,
                            .user = keep_user ? ::geteuid() : unprivileged_id};
  const pid_t pid = TRY(start_in_cage(options, [&] { return body(output_write.get()); }));
  output_write.reset();
  Ended ended;
  read_output(output_read, ended.output, deadline);
  // What it started is in its group, or dies with process 1 of the namespace.
  if (deadline.passed()) ::kill(pid, SIGKILL);
  siginfo_t info{};
  while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
  }
  ::kill(-pid, SIGKILL);
  ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED);
  ended.signalled = info.si_code != CLD_EXITED;
  ended.code = info.si_status;
  if (!ended.signalled && ended.code == not_mapped)
    return error(Code::not_supported, "the child could not become user 0 of its namespace");
  return ended;
}

}  // namespace aios::sandbox
