// What contexts may ask of the kernel on hosts with GPUs and on others: each in a child.
#include "abi/runtime/sandbox/syscall_filter.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <functional>

using namespace aios;

namespace {

/// What errno `attempt` leaves under the rules (0: none) in a child; 128 plus the signal that ended
/// it.
int attempt(const sandbox::Rules& rules, const std::function<int()>& attempt) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (!sandbox::filter_syscalls(rules)) ::_exit(127);
    ::_exit(attempt() < 0 ? errno : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

sandbox::Rules rules(bool devices) {
  return {.files = true, .code = true, .programs = true, .devices = devices, .threads = 64};
}

/// How many bytes a pipe holds: a command that any kernel knows.
int ask_pipe() {
  int ends[2];
  int bytes = 0;
  return ::pipe2(ends, O_CLOEXEC) == 0 ? ::ioctl(ends[0], FIONREAD, &bytes) : -1;
}

}  // namespace

TEST_CASE("Where a host has GPUs their contexts may ask them, and elsewhere not") {
  CHECK(attempt(rules(true), ask_pipe) == 0);
  CHECK(attempt(rules(false), ask_pipe) == ENOTTY);
}

TEST_CASE("What GPUs' libraries try in vain is refused, not punished") {
  const auto socket = [] { return ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); };
  const auto make = [] { return ::mknod("/dev/nvidiactl", S_IFCHR | 0600, 0); };
  CHECK(attempt(rules(true), make) == EPERM);
  // Linux lets nobody end swapping at a name that is not there; the call itself is not served.
  const auto unforeseen = [] { return ::swapoff("/nowhere-at-all"); };
  CHECK(attempt(rules(true), unforeseen) == ENOSYS);
  CHECK(attempt(rules(false), unforeseen) == 128 + SIGSYS);
  // So is what programs try that may reach no socket; contexts without programs have no reason to.
  CHECK(attempt(rules(false), socket) == EACCES);
  const sandbox::Rules alone{.files = true, .code = true, .programs = false, .threads = 64};
  CHECK(attempt(alone, socket) == 128 + SIGSYS);
  CHECK(attempt(rules(false), make) == 128 + SIGSYS);
}

TEST_CASE("GPUs' libraries listen at a socket, reach none and serve nobody") {
  const auto socket_of = [](int type) { return ::socket(AF_UNIX, type | SOCK_CLOEXEC, 0); };
  // Linux chooses a name.
  const sockaddr any{.sa_family = AF_UNIX, .sa_data = {}};
  CHECK(attempt(rules(true), [&] {
          const int fd = socket_of(SOCK_SEQPACKET);
          return ::bind(fd, &any, sizeof any.sa_family) == 0 ? ::listen(fd, 1) : -1;
        }) == 0);
  CHECK(attempt(rules(true), [&] { return ::connect(socket_of(SOCK_STREAM), &any, sizeof any); }) ==
        ENOENT);
  CHECK(attempt(rules(true), [&] { return ::accept(socket_of(SOCK_STREAM), nullptr, nullptr); }) ==
        EPERM);
  CHECK(attempt(rules(true), [&] { return socket_of(SOCK_DGRAM); }) == ENOSYS);
  CHECK(attempt(rules(true), [] { return ::socket(AF_INET, SOCK_STREAM, 0); }) != 0);
}
