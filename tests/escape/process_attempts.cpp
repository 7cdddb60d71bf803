// Other processes, programs, and namespaces.
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "tests/escape/attempts.hpp"

namespace aios::escape {

namespace {

bool signal_another(const Outside& outside) {
  return ::kill(outside.victim, SIGCONT) == 0;
}
bool signal_a_thread_of_another(const Outside& outside) {
  return ::syscall(SYS_tgkill, outside.victim, outside.victim, SIGCONT) == 0;
}
bool queue_a_signal(const Outside& outside) {
  return ::sigqueue(outside.victim, SIGCONT, {}) == 0;
}
bool signal_everybody(const Outside&) {
  return ::kill(-1, 0) == 0;
}
bool trace_another(const Outside& outside) {
  if (::ptrace(PTRACE_SEIZE, outside.victim, nullptr, nullptr) != 0) return false;
  ::ptrace(PTRACE_DETACH, outside.victim, nullptr, nullptr);
  return true;
}
bool read_memory_of_another(const Outside& outside) {
  char bytes[sizeof memory_mark];
  const iovec own{bytes, sizeof bytes};
  const iovec its{memory_mark, sizeof bytes};
  return ::process_vm_readv(outside.victim, &own, 1, &its, 1, 0) > 0;
}
bool write_memory_of_another(const Outside& outside) {
  char bytes[] = "changed";
  const iovec own{bytes, sizeof bytes};
  const iovec its{memory_mark, sizeof bytes};
  return ::process_vm_writev(outside.victim, &own, 1, &its, 1, 0) > 0;
}
int open_victim(const Outside& outside) {
  return static_cast<int>(::syscall(SYS_pidfd_open, outside.victim, 0));
}
bool take_descriptor_of_another(const Outside& outside) {
  const int pidfd = open_victim(outside);
  return pidfd >= 0 && ::syscall(SYS_pidfd_getfd, pidfd, 0, 0) >= 0;
}
bool signal_by_pidfd(const Outside& outside) {
  const int pidfd = open_victim(outside);
  return pidfd >= 0 && ::syscall(SYS_pidfd_send_signal, pidfd, SIGCONT, nullptr, 0) == 0;
}
bool limit_another(const Outside& outside) {
  rlimit limit{};
  return ::prlimit(outside.victim, RLIMIT_NOFILE, nullptr, &limit) == 0;
}
bool be_nicer_than_another(const Outside& outside) {
  return ::setpriority(PRIO_PROCESS, static_cast<id_t>(outside.victim), 1) == 0;
}
bool compare_with_another(const Outside& outside) {
  return ::syscall(SYS_kcmp, ::getpid(), outside.victim, 0, 0, 0) >= 0;
}
bool pin_another(const Outside& outside) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  return ::sched_setaffinity(outside.victim, sizeof set, &set) == 0;
}

bool make_process(const Outside&) {
  const pid_t child = static_cast<pid_t>(::syscall(SYS_fork));
  if (child == 0) ::_exit(0);
  if (child < 0) return false;
  ::waitpid(child, nullptr, 0);
  return true;
}
bool execute(const char* path, int fd, int flags) {
  const char* const arguments[] = {path, "--exit-gained", nullptr};
  const char* const environment[] = {nullptr};
  // Returns only when it fails; otherwise the program's exit code speaks.
  ::syscall(SYS_execveat, fd, path, arguments, environment, flags);
  return false;
}
bool execute_host_program(const Outside& outside) {
  return execute((outside.folder + "/program").c_str(), AT_FDCWD, 0);
}
bool execute_program_of_usr(const Outside&) {
  const char* const arguments[] = {"env", nullptr};
  const char* const environment[] = {nullptr};
  // Its own exit code is 0, as that of an attempt that was done.
  ::execve("/usr/bin/env", const_cast<char**>(arguments), const_cast<char**>(environment));
  return false;
}
bool execute_memory(const Outside& outside) {
  const int program = ::open((outside.folder + "/program").c_str(), O_RDONLY | O_CLOEXEC);
  const int memory = ::memfd_create("program", 0);
  // Without the program at hand any bytes do: what counts is whether Linux begins to execute them.
  char bytes[4096] = "#!/bin/false\n";
  ssize_t n = 0;
  do {
    if (program >= 0) n = ::read(program, bytes, sizeof bytes);
    if (n > 0 && ::write(memory, bytes, static_cast<std::size_t>(n)) != n) return false;
  } while (program >= 0 && n > 0);
  return execute("", memory, AT_EMPTY_PATH);
}
/// The set-uid copy runs as its owner where nothing forbids that.
bool gain_user_by_program(const Outside& outside) {
  const std::string who = std::to_string(::geteuid());
  const char* const arguments[] = {"program", "--who", who.c_str(), nullptr};
  const char* const environment[] = {nullptr};
  ::execve(outside.setuid_program.c_str(), const_cast<char**>(arguments),
           const_cast<char**>(environment));
  return false;
}

bool become_another_user(const Outside&) {
  return ::syscall(SYS_setresuid, 12345, 12345, 12345) == 0;
}
bool become_another_group(const Outside&) {
  return ::syscall(SYS_setresgid, 12345, 12345, 12345) == 0;
}
bool keep_capabilities(const Outside&) {
  return ::prctl(PR_SET_SECUREBITS, 1 << 4) == 0;
}
bool allow_tracing_by_all(const Outside&) {
  return ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY) == 0;
}

bool unshare(int flags) {
  return ::unshare(flags) == 0;
}
bool make_user_namespace(const Outside&) {
  return unshare(CLONE_NEWUSER);
}
bool make_mount_namespace(const Outside&) {
  return unshare(CLONE_NEWNS);
}
bool make_network_namespace(const Outside&) {
  return unshare(CLONE_NEWNET);
}
bool wait_for_clone(long child) {
  if (child == 0) ::_exit(0);
  if (child < 0) return false;
  ::waitpid(static_cast<pid_t>(child), nullptr, 0);
  return true;
}
bool clone_into_user_namespace(const Outside&) {
  return wait_for_clone(
      ::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr, nullptr, nullptr, 0));
}
bool clone3_into_user_namespace(const Outside&) {
  clone_args arguments{};
  arguments.flags = CLONE_NEWUSER;
  arguments.exit_signal = SIGCHLD;
  return wait_for_clone(::syscall(SYS_clone3, &arguments, sizeof arguments));
}
bool enter_namespace_of_another(const Outside& outside) {
  const int pidfd = open_victim(outside);
  return pidfd >= 0 && ::setns(pidfd, CLONE_NEWUTS) == 0;
}
bool enter_namespace_by_path(const Outside& outside) {
  const std::string path = "/proc/" + std::to_string(outside.victim) + "/ns/uts";
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  return fd >= 0 && ::setns(fd, CLONE_NEWUTS) == 0;
}

// Who has child processes may signal; whom is a matter of the namespace.
constexpr std::uint32_t own_processes = proto::sandbox::bit(proto::sandbox::Protection::namespaces);
constexpr std::uint32_t with_programs = only({Profile::jit, Profile::tool, Profile::streaming});

constexpr Attempt attempts[] = {
    {"signal another process", signal_another, 0, own_processes},
    {"signal a thread of another process", signal_a_thread_of_another, 0, own_processes},
    {"queue a signal to another process", queue_a_signal},
    {"signal everybody", signal_everybody, 0, own_processes},
    {"trace another process", trace_another},
    {"read another's memory", read_memory_of_another},
    {"write another's memory", write_memory_of_another},
    {"take another's descriptor", take_descriptor_of_another},
    {"signal by pidfd", signal_by_pidfd},
    {"limit another process", limit_another},
    {"change another's priority", be_nicer_than_another},
    {"compare with another process", compare_with_another},
    {"pin another process", pin_another},
    {"make a process", make_process, with_programs},
    {"execute a program of the host", execute_host_program},
    {"execute a program of /usr", execute_program_of_usr, with_programs},
    {"execute memory", execute_memory},
    {"gain a user by a set-uid program", gain_user_by_program},
    {"become another user", become_another_user},
    {"become another group", become_another_group},
    {"change how capabilities are kept", keep_capabilities},
    {"let everybody trace", allow_tracing_by_all},
    {"make a user namespace", make_user_namespace},
    {"make a mount namespace", make_mount_namespace},
    {"make a network namespace", make_network_namespace},
    {"clone into a user namespace", clone_into_user_namespace},
    {"clone3 into a user namespace", clone3_into_user_namespace},
    {"enter another's namespace", enter_namespace_of_another},
    {"enter another's namespace by path", enter_namespace_by_path},
};

}  // namespace

std::span<const Attempt> process_attempts() {
  return attempts;
}

}  // namespace aios::escape
