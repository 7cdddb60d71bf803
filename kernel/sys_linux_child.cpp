// The part of the Linux seam that makes, signals and reaps children, and prepares to have some.
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "abi/proto/kernel.hpp"
#include "abi/runtime/sandbox/namespaces.hpp"
#include "kernel/limits.hpp"
#include "kernel/sys_linux.hpp"

namespace aios::kernel::sys {

namespace {

[[noreturn]] void give_up(const char* what) {
  const char* reason = ::strerrorname_np(errno);
  const char* parts[] = {"aios-kernel: cannot start this process: ", what, ": ",
                         reason != nullptr ? reason : "unknown error", "\n"};
  for (const char* part : parts) (void)!::write(STDERR_FILENO, part, std::strlen(part));
  ::_exit(127);
}

int run_image(const ChildPlan& plan) {
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  (void)!::chdir("/");
  // The kernel's descriptors all lie above 3, so no source is overwritten before it is copied.
  ::dup2(plan.null_fd, STDIN_FILENO);
  ::dup2(plan.log_fd, STDOUT_FILENO);
  ::dup2(plan.log_fd, STDERR_FILENO);
  ::dup2(plan.socket_fd, proto::kernel::child_socket_fd);
  constexpr int image_fd = proto::kernel::child_socket_fd + 1;
  ::dup2(plan.image_fd, image_fd);
  ::fcntl(image_fd, F_SETFD, FD_CLOEXEC);
  if (::syscall(SYS_close_range, image_fd + 1, ~0u, 0u) != 0) give_up("close_range");
  const bool became = plan.namespaces            ? sandbox::become_mapped_root()
                      : plan.user != ::geteuid() ? sandbox::become_user(plan.user)
                                                 : true;
  if (!became) give_up("become its user");
  ::setpgid(0, 0);
  constexpr rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  // After the change of uid, which would clear it.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) give_up("prctl PDEATHSIG");
  // A kernel that died before that sends no signal; but nobody holds its end of the socket now.
  pollfd kernel{proto::kernel::child_socket_fd, 0, 0};
  if (::poll(&kernel, 1, 0) != 0) ::_exit(127);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) give_up("prctl NO_NEW_PRIVS");
  ::syscall(SYS_execveat, image_fd, "", plan.argv, plan.envp, AT_EMPTY_PATH);
  give_up("exec");
}

void close_all_but(int fd) {
  ::syscall(SYS_close_range, 0, fd - 1, 0);
  ::syscall(SYS_close_range, fd + 1, ~0u, 0);
}

/// The child runs `body` and exits with what that returns. What ends in an exec calls only what is
/// async-signal-safe until then, and allocates nothing. `given_away` is closed here after
/// the clone and before the child goes on.
Result<Child> clone_child(const ChildPlan& plan, const std::function<int()>& body,
                          Fd given_away = {}) {
  std::array<int, 2> go{};
  if (::pipe2(go.data(), O_CLOEXEC) != 0) return errno_error("make pipe", errno);
  const Fd go_read(go[0]);
  Fd go_write(go[1]);
  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = CLONE_PIDFD | (plan.namespaces ? sandbox::namespace_flags : 0);
  arguments.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return errno_error("clone", errno);
  if (pid == 0) {
    ::close(go_write.get());
    char byte = 0;
    // End of file: the kernel could not map the ids, or is gone.
    if (::read(go_read.get(), &byte, 1) != 1) ::_exit(127);
    ::_exit(body());
  }
  Child child{static_cast<pid_t>(pid), Fd(pidfd)};
  auto mapped = plan.namespaces ? sandbox::map_ids(child.pid, plan.user) : Result<void>();
  if (mapped && plan.group != nullptr)
    mapped = plan.group->add(child.pid, cgroup::Group::Part::children);
  if (!mapped) {
    go_write.reset();
    ExitStatus status;
    wait_exit(child.pidfd, Deadline::after(limits::reap_timeout_ns));
    reap(child.pidfd, status);
    return std::unexpected(std::move(mapped).error());
  }
  given_away.reset();
  if (::write(go_write.get(), "", 1) != 1) return errno_error("start child", errno);
  return child;
}

}  // namespace

Result<Child> spawn(const ChildPlan& plan) {
  return clone_child(plan, [&plan] { return run_image(plan); });
}

Result<Child> in_child(int kept, const std::function<int()>& work) {
  return clone_child({}, [&work, kept] { return close_all_but(kept), work(); });
}

Result<Child> close_in_child(Fd fd) {
  const auto body = [kept = fd.get()] { return close_all_but(kept), 0; };
  return clone_child({}, body, std::move(fd));
}

Result<Child> freeze_in_child(const Fd& file) {
  return in_child(file.get(), [fd = file.get()] {
    int failed = EBUSY;
    // More than once, since Linux itself may hold a page for a moment.
    for (int attempt = 0; attempt < 3 && failed == EBUSY; ++attempt)
      failed = ::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) == 0 ? 0 : errno;
    return failed;
  });
}

bool can_make_namespaces() {
  auto child = clone_child({.namespaces = true, .user = sandbox::unprivileged_id},
                           [] { return sandbox::become_mapped_root() ? 0 : 1; });
  if (!child) return false;
  ExitStatus status;
  return wait_exit(child->pidfd, Deadline::after(limits::reap_timeout_ns)) &&
         reap(child->pidfd, status) && !status.signalled && status.code == 0;
}

Result<void> prepare_self() {
  for (Fd null = open_null(); null.get() <= proto::kernel::child_socket_fd; null = open_null()) {
    if (!null.valid()) return errno_error("open /dev/null", errno);
    (void)null.release();
  }
  ::signal(SIGPIPE, SIG_IGN);
  ::umask(077);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  // Refused unless it is root, whose children may not once they are in a user namespace.
  constexpr rlimit any_memory{RLIM_INFINITY, RLIM_INFINITY};
  ::setrlimit(RLIMIT_MEMLOCK, &any_memory);
  return {};
}

Result<Fd> open_image(const std::string& path) {
  Fd image(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!image.valid()) return errno_error("open image " + path, errno);
  struct stat info {};
  if (::fstat(image.get(), &info) != 0) return errno_error("inspect image", errno);
  if (!S_ISREG(info.st_mode)) return error(Code::invalid_argument, "image is not a file: " + path);
  if ((info.st_mode & 0111) == 0) return error(Code::denied, "image is not executable: " + path);
  return image;
}

Result<Fd> open_log(const std::filesystem::path& path, std::uint64_t limit_bytes) {
  constexpr int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0 && static_cast<std::uint64_t>(info.st_size) > limit_bytes)
    ::rename(path.c_str(), (path.string() + ".1").c_str());
  Fd log(::open(path.c_str(), flags, 0600));
  if (!log.valid()) return errno_error("open log " + path.string(), errno);
  return log;
}

Result<void> signal_process(const Fd& pidfd, int signal_number) {
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signal_number, nullptr, 0) != 0)
    return errno_error("signal process", errno);
  return {};
}

bool reap(const Fd& pidfd, ExitStatus& status) {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED | WNOHANG) != 0) return true;
  if (info.si_pid == 0) return false;
  status = {info.si_status, info.si_code != CLD_EXITED};
  return true;
}

bool wait_exit(const Fd& pidfd, Deadline deadline) {
  pollfd event{pidfd.get(), POLLIN, 0};
  while (::poll(&event, 1, deadline.poll_timeout_ms()) != 1)
    if (deadline.passed()) return false;
  return true;
}

}  // namespace aios::kernel::sys
