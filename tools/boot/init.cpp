// aios-init: process 1 of a virtual machine or a container that runs AIOS.
//
//   aios-init [COMMAND [ARGUMENT...]]
//
// Runs COMMAND, by default `aiosctl boot`, on the console, and reaps orphans until it ends. Then it
// ends every other process, the ones that are asked to being given some seconds, and switches the
// machine off, or, in a container, exits with COMMAND's exit code (128 + N when signal N killed
// it). SIGTERM, SIGPWR, SIGUSR1 and SIGUSR2 (what `poweroff` sends) have COMMAND asked to end, and
// so has SIGINT (Ctrl-Alt-Del), after which a machine starts again.
//
// A machine is known by its missing /proc: there the system's file systems are mounted first, and
// the root leaves the initramfs. A container finds all of that done.
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <optional>
#include <string>

namespace {

/// How long COMMAND has to end once it was asked to: as aios.service gives an instance.
constexpr int command_grace_s = 30;
/// The same for what COMMAND has left behind.
constexpr int leftover_grace_s = 10;
constexpr int end_signals[] = {SIGTERM, SIGPWR, SIGUSR1, SIGUSR2, SIGINT};

void say(const std::string& text) {
  std::fprintf(stderr, "aios-init: %s\n", text.c_str());
}

/// Nothing works without what has failed. That process 1 exits stops a machine with a kernel panic,
/// which shows this text above it.
[[noreturn]] void give_up(const std::string& what) {
  say(what + ": " + std::strerror(errno));
  std::exit(1);
}

/// The kernel refuses pivot_root, which every AIOS sandbox needs, while the root is the one that
/// the initramfs was unpacked to: it is attached to nothing. The same files bound on top of it are.
void leave_initramfs() {
  ::mkdir("/newroot", 0755);
  if (::mount("/", "/newroot", nullptr, MS_BIND, nullptr) != 0 || ::chdir("/newroot") != 0 ||
      ::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || ::chroot(".") != 0 || ::chdir("/") != 0)
    give_up("cannot leave the initramfs");
  ::rmdir("/newroot");
}

void mount_file_systems() {
  struct Mount {
    const char* type;
    const char* target;
    unsigned long flags;
    const char* options;
  };
  constexpr unsigned long closed = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  // /tmp and /run need none: the root is in memory.
  constexpr Mount mounts[] = {
      {"proc", "/proc", closed, nullptr},
      {"sysfs", "/sys", closed, nullptr},
      {"cgroup2", "/sys/fs/cgroup", closed, nullptr},
      {"devtmpfs", "/dev", MS_NOSUID, "mode=755"},
      {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666"},
      {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
  };
  for (const Mount& one : mounts) {
    ::mkdir(one.target, 0755);
    if (::mount(one.type, one.target, one.type, one.flags, one.options) != 0)
      give_up(std::string("cannot mount ") + one.target);
  }
}

/// /dev/console cannot be a controlling terminal, so what is behind it becomes ours: Ctrl-C works.
void open_console() {
  std::string name, last;
  for (std::ifstream active("/sys/class/tty/console/active"); active >> name;) last = name;
  ::setsid();
  const int console = ::open(("/dev/" + last).c_str(), O_RDWR);
  if (console < 0) return;  // what the kernel has opened stays
  for (int fd = 0; fd < 3; ++fd) ::dup2(console, fd);
  if (console > 2) ::close(console);
}

sigset_t watched_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGCHLD);
  for (int number : end_signals) ::sigaddset(&set, number);
  return set;
}

pid_t start(char* const* command) {
  const pid_t pid = ::fork();
  if (pid < 0) give_up("cannot fork");
  if (pid > 0) return pid;
  sigset_t none;
  ::sigemptyset(&none);
  // A group of its own in front of the terminal, if there is one: as a shell starts it.
  ::setpgid(0, 0);
  ::tcsetpgrp(STDIN_FILENO, ::getpid());
  ::signal(SIGTTOU, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execvp(command[0], command);
  say(std::string("cannot run ") + command[0] + ": " + std::strerror(errno));
  ::_exit(127);
}

struct Life {
  std::optional<int> command_status;  ///< once COMMAND has ended
  bool others = true;                 ///< whether any child is left
  bool restart = false;               ///< what asked for the end wants the machine back
};

void reap(pid_t command, Life& life) {
  int status = 0;
  pid_t pid = 0;
  while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0)
    if (pid == command)
      life.command_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  life.others = pid == 0;
}

std::time_t seconds_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

/// Until COMMAND has ended, or has not although it was asked to.
void live(pid_t command, Life& life) {
  const sigset_t signals = watched_signals();
  std::optional<std::time_t> deadline;
  while (!life.command_status && (!deadline || seconds_now() < *deadline)) {
    const timespec wait{deadline ? *deadline - seconds_now() : command_grace_s, 0};
    const int number = ::sigtimedwait(&signals, nullptr, &wait);
    if (number > 0 && number != SIGCHLD) {
      life.restart = number == SIGINT;
      if (!deadline) deadline = seconds_now() + command_grace_s;
      ::kill(command, SIGTERM);
    }
    reap(command, life);
  }
}

/// Everything but this process; with SIGTERM first, and SIGKILL to what is deaf to it.
void end_all(pid_t command, Life& life) {
  const sigset_t signals = watched_signals();
  reap(command, life);
  for (int number : {SIGTERM, SIGKILL}) {
    if (life.others) ::kill(-1, number);
    const std::time_t deadline = seconds_now() + leftover_grace_s;
    while (life.others && seconds_now() < deadline) {
      const timespec wait{1, 0};
      ::sigtimedwait(&signals, nullptr, &wait);
      reap(command, life);
    }
  }
}

[[noreturn]] void leave_machine(const Life& life, int code) {
  timespec up{};
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  char text[100];
  std::snprintf(text, sizeof text,
                "the command ended with %d, %.1f s after the machine started; %s", code,
                static_cast<double>(up.tv_sec) + static_cast<double>(up.tv_nsec) / 1e9,
                life.restart ? "restarting" : "switching off");
  say(text);
  ::tcdrain(STDERR_FILENO);
  ::sync();
  ::reboot(life.restart ? RB_AUTOBOOT : RB_POWER_OFF);
  give_up("cannot switch off");
}

}  // namespace

int main(int argc, char** argv) {
  if (::getpid() != 1) {
    std::fprintf(stderr,
                 "usage: aios-init [COMMAND [ARGUMENT...]]\n"
                 "This is process 1 of a machine or container; see tools/boot/README.md.\n");
    return 2;
  }
  const bool machine = ::access("/proc/self", F_OK) != 0;
  if (machine) {
    leave_initramfs();
    mount_file_systems();
    open_console();
    ::reboot(RB_DISABLE_CAD);
    ::sethostname("aios", 4);
  }
  const sigset_t signals = watched_signals();
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGTTOU, SIG_IGN);
  ::setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 0);
  ::setenv("HOME", "/root", 1);
  char boot[][8] = {"aiosctl", "boot"};
  char* const default_command[] = {boot[0], boot[1], nullptr};
  const pid_t command = start(argc > 1 ? argv + 1 : default_command);
  Life life;
  live(command, life);
  end_all(command, life);
  const int code = life.command_status.value_or(128 + SIGKILL);
  if (machine) leave_machine(life, code);
  return code;
}
