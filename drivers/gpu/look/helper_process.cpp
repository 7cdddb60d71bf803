#include "drivers/gpu/look/helper_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "abi/runtime/sandbox/proc.hpp"

namespace aios::gpu {

namespace {

constexpr char ready_byte = '+';
constexpr int ready_limit_ms = 2000;

[[noreturn]] void run_helper(int socket, const char* name, const std::function<void()>& serve) {
  become_child(socket);
  ::prctl(PR_SET_NAME, name);
  // The driver changes its root; this process keeps the host's. Where that is not possible the
  // driver keeps it, too.
  if (::unshare(CLONE_NEWNS) == 0 &&
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0)
    find_own_threads();
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int handled : {SIGCHLD, SIGTERM, SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL})
    ::signal(handled, SIG_DFL);
  write_all(STDIN_FILENO, {&ready_byte, 1});
  serve();
  ::_exit(0);
}

}  // namespace

Result<Fd> start_helper(const char* name, const std::function<void()>& serve) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return errno_error("make a socket", errno);
  Fd mine(ends[0]);
  const Fd other(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return errno_error(std::string("start ") + name, errno);
  if (child == 0) run_helper(other.get(), name, serve);
  // Once it has said so it has what the driver is about to give up.
  pollfd begun{mine.get(), POLLIN, 0};
  char byte = 0;
  if (::poll(&begun, 1, ready_limit_ms) != 1 || ::read(mine.get(), &byte, 1) != 1)
    return error(Code::io_error, std::string(name) + " does not start");
  ::fcntl(mine.get(), F_SETFL, ::fcntl(mine.get(), F_GETFL) | O_NONBLOCK);
  return mine;
}

void become_child(int keep) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::dup2(keep, STDIN_FILENO);
  ::syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0u);
}

void find_own_threads() {
  const std::string own = "/proc/self/task/" + std::to_string(::gettid());
  if (::access(own.c_str(), F_OK) == 0 || sandbox::mount_proc("/proc")) return;
  (void)sandbox::cover_tasks("/proc/self/task");
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

}  // namespace aios::gpu
