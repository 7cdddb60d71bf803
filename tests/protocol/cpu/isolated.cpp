#include "tests/protocol/cpu/isolated.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi/runtime/fd.hpp"

namespace aios::cpu::test {
namespace {

bool write_file(const char* path, const std::string& text) {
  const Fd file(::open(path, O_WRONLY | O_CLOEXEC));
  return ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

bool enter_namespaces() {
  const std::string uid = std::to_string(::getuid()), gid = std::to_string(::getgid());
  return ::unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
                   CLONE_NEWUTS) == 0 &&
         write_file("/proc/self/setgroups", "deny") &&
         write_file("/proc/self/uid_map", "0 " + uid + " 1") &&
         write_file("/proc/self/gid_map", "0 " + gid + " 1");
}

constexpr int no_namespaces = 250;

/// The process in between owns the namespaces and passes on how the one inside ended.
[[noreturn]] void run_between(const std::function<int()>& body, int report) {
  if (!enter_namespaces()) ::_exit(no_namespaces);
  const pid_t inner = ::fork();
  if (inner == 0) {
    ::close(report);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(inner, &status, 0);
  (void)!::write(report, &status, sizeof status);
  ::_exit(0);
}

}  // namespace

bool namespaces_available() {
  static const bool available = run_isolated([] { return 0; }).code == 0;
  return available;
}

Outcome run_isolated(const std::function<int()>& body) {
  int output[2], report[2];
  if (::pipe2(output, O_CLOEXEC) != 0 || ::pipe2(report, O_CLOEXEC) != 0) return {};
  const Fd output_read(output[0]), report_read(report[0]);
  Fd output_write(output[1]), report_write(report[1]);
  const pid_t between = ::fork();
  if (between == 0) {
    ::dup2(output_write.get(), STDERR_FILENO);
    run_between(body, report_write.get());
  }
  output_write.reset();
  report_write.reset();
  Outcome outcome;
  char bytes[512];
  for (ssize_t n = 0; (n = ::read(output_read.get(), bytes, sizeof bytes)) > 0;)
    outcome.output.append(bytes, static_cast<std::size_t>(n));
  int status = 0;
  if (::read(report_read.get(), &status, sizeof status) == sizeof status) {
    outcome.signalled = WIFSIGNALED(status);
    outcome.code = outcome.signalled ? WTERMSIG(status) : WEXITSTATUS(status);
  }
  ::waitpid(between, nullptr, 0);
  return outcome;
}

}  // namespace aios::cpu::test
