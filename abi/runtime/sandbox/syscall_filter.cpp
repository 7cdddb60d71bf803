#include "abi/runtime/sandbox/syscall_filter.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <span>

namespace aios::sandbox {

namespace {

// What every server, context and library does: memory, time, threads, and descriptors it holds.
constexpr int common[] = {
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(mincore),
    SCMP_SYS(msync),
    SCMP_SYS(membarrier),
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(pwrite64),
    SCMP_SYS(pwritev),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(close_range),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(fstat),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(timerfd_gettime),
    SCMP_SYS(signalfd4),
    SCMP_SYS(pipe2),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(recvfrom),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(times),
    SCMP_SYS(getrandom),
    SCMP_SYS(getcpu),
    SCMP_SYS(getrusage),
    SCMP_SYS(getrlimit),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(getpgrp),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigpending),
    SCMP_SYS(rt_sigsuspend),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(pause),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

// By path; what they reach is a matter of the root folder and of Landlock.
constexpr int by_path[] = {
    SCMP_SYS(open),       SCMP_SYS(openat),     SCMP_SYS(creat),    SCMP_SYS(access),
    SCMP_SYS(faccessat),  SCMP_SYS(faccessat2), SCMP_SYS(stat),     SCMP_SYS(lstat),
    SCMP_SYS(newfstatat), SCMP_SYS(statx),      SCMP_SYS(readlink), SCMP_SYS(readlinkat),
    SCMP_SYS(statfs),     SCMP_SYS(getcwd),     SCMP_SYS(chdir),
};

// For those who have files: also changing them, and what lies in folders.
constexpr int on_files[] = {
    SCMP_SYS(fchdir),    SCMP_SYS(getdents64), SCMP_SYS(unlink),          SCMP_SYS(unlinkat),
    SCMP_SYS(mkdir),     SCMP_SYS(mkdirat),    SCMP_SYS(rmdir),           SCMP_SYS(rename),
    SCMP_SYS(renameat),  SCMP_SYS(renameat2),  SCMP_SYS(truncate),        SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate), SCMP_SYS(fsync),      SCMP_SYS(fdatasync),       SCMP_SYS(sync_file_range),
    SCMP_SYS(fstatfs),   SCMP_SYS(fadvise64),  SCMP_SYS(flock),           SCMP_SYS(fchmod),
    SCMP_SYS(umask),     SCMP_SYS(sendfile),   SCMP_SYS(copy_file_range),
};

constexpr int to_run_programs[] = {
    SCMP_SYS(fork),      SCMP_SYS(vfork),      SCMP_SYS(execve),      SCMP_SYS(wait4),
    SCMP_SYS(waitid),    SCMP_SYS(pipe),       SCMP_SYS(setpgid),     SCMP_SYS(getpgid),
    SCMP_SYS(getsid),    SCMP_SYS(setsid),     SCMP_SYS(kill),        SCMP_SYS(getgroups),
    SCMP_SYS(chmod),     SCMP_SYS(fchmodat),   SCMP_SYS(utimensat),   SCMP_SYS(getresuid),
    SCMP_SYS(getresgid), SCMP_SYS(arch_prctl), SCMP_SYS(getxattr),    SCMP_SYS(lgetxattr),
    SCMP_SYS(alarm),     SCMP_SYS(setitimer),  SCMP_SYS(getpriority), SCMP_SYS(symlink),
    SCMP_SYS(link),      SCMP_SYS(linkat),     SCMP_SYS(socketpair),
};

// Collects the first error: every step is one more rule.
class Filter {
 public:
  explicit Filter(std::uint32_t otherwise)
      : context_(seccomp_init(otherwise)), otherwise_(otherwise) {
    if (context_ == nullptr) failed_ = -ENOMEM;
  }
  ~Filter() { seccomp_release(context_); }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;

  void rule(std::uint32_t action, int number, std::initializer_list<scmp_arg_cmp> when = {}) {
    // The library refuses a rule that says what holds anyway.
    if (failed_ == 0 && action != otherwise_)
      failed_ = seccomp_rule_add_array(context_, action, number, static_cast<unsigned>(when.size()),
                                       when.begin());
  }
  void allow(int number, std::initializer_list<scmp_arg_cmp> when = {}) {
    rule(SCMP_ACT_ALLOW, number, when);
  }
  void allow_all(std::span<const int> numbers) {
    for (const int number : numbers) allow(number);
  }
  /// Refused without ending the process.
  void refuse(std::uint16_t errno_value, int number,
              std::initializer_list<scmp_arg_cmp> when = {}) {
    rule(SCMP_ACT_ERRNO(errno_value), number, when);
  }
  int load() {
    // A tree rather than a list: the calls of a busy server lie all over it.
    if (failed_ == 0) failed_ = seccomp_attr_set(context_, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    return failed_ == 0 ? seccomp_load(context_) : failed_;
  }

 private:
  scmp_filter_ctx context_;
  std::uint32_t otherwise_;
  int failed_ = 0;
};

constexpr scmp_datum_t bits(std::uint64_t value) {
  return value;
}

void add_memory(Filter& filter, const Rules& rules) {
  for (const int number : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
    if (rules.code) {
      filter.allow(number);
      continue;
    }
    filter.allow(number, {SCMP_A2(SCMP_CMP_MASKED_EQ, bits(PROT_EXEC), 0)});
  }
  // Where there is no private folder, modules are loaded from memory files.
  if (rules.code) filter.allow(SCMP_SYS(memfd_create));
}

void add_threads(Filter& filter, const Rules& rules) {
  constexpr std::uint64_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                       CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
  constexpr std::uint64_t thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
  if (rules.programs)
    filter.allow(SCMP_SYS(clone), {SCMP_A0(SCMP_CMP_MASKED_EQ, bits(namespaces), 0)});
  else
    filter.allow(SCMP_SYS(clone),
                 {SCMP_A0(SCMP_CMP_MASKED_EQ, bits(namespaces | thread), bits(thread))});
  // Its flags lie behind a pointer; glibc falls back to clone.
  filter.refuse(ENOSYS, SCMP_SYS(clone3));
  // No inheritance of priorities and no requeueing: the intricate half of the futex code.
  constexpr std::uint64_t operation = ~std::uint64_t{FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME};
  for (const int allowed : {FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET})
    filter.allow(SCMP_SYS(futex), {SCMP_A1(SCMP_CMP_MASKED_EQ, bits(operation & 0xffffffff),
                                           static_cast<scmp_datum_t>(allowed))});
  for (const int denied :
       {FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP, FUTEX_LOCK_PI, FUTEX_UNLOCK_PI,
        FUTEX_TRYLOCK_PI, FUTEX_LOCK_PI2, FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI})
    filter.refuse(ENOSYS, SCMP_SYS(futex),
                  {SCMP_A1(SCMP_CMP_MASKED_EQ, bits(operation & 0xffffffff),
                           static_cast<scmp_datum_t>(denied))});
  if (rules.programs)
    filter.allow(SCMP_SYS(tgkill));
  else
    filter.allow(SCMP_SYS(tgkill), {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid()))});
  // Of the calling thread only: without namespaces its number could be any process of the user's.
  filter.allow(SCMP_SYS(sched_setaffinity), {SCMP_A0(SCMP_CMP_EQ, 0)});
  filter.refuse(EPERM, SCMP_SYS(sched_setaffinity), {SCMP_A0(SCMP_CMP_NE, 0)});
  // A thread may step behind all others, and nothing else.
  const auto of_itself = SCMP_A0(SCMP_CMP_EQ, 0);
  filter.allow(SCMP_SYS(sched_setscheduler), {of_itself, SCMP_A1(SCMP_CMP_EQ, SCHED_IDLE)});
  filter.refuse(EPERM, SCMP_SYS(sched_setscheduler), {of_itself, SCMP_A1(SCMP_CMP_NE, SCHED_IDLE)});
  filter.refuse(EPERM, SCMP_SYS(sched_setscheduler), {SCMP_A0(SCMP_CMP_NE, 0)});
  for (const int number : {SCMP_SYS(sched_setparam), SCMP_SYS(setpriority), SCMP_SYS(mlock),
                           SCMP_SYS(get_mempolicy), SCMP_SYS(mbind)})
    filter.refuse(EPERM, number);
}

/// A GPU's library listens at a socket, or does not start; nobody needs to be served there. It
/// looks for a daemon, and does without one that is not there.
void add_listening(Filter& filter) {
  constexpr scmp_datum_t type_bits = 0xf;
  // Not datagrams: those reach a name without connecting.
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET})
    filter.allow(SCMP_SYS(socket),
                 {SCMP_A0(SCMP_CMP_EQ, AF_UNIX),
                  SCMP_A1(SCMP_CMP_MASKED_EQ, type_bits, static_cast<scmp_datum_t>(type))});
  for (const int number : {SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(getsockname)})
    filter.allow(number);
  for (const int option : {SO_PASSCRED, SO_SNDBUF, SO_RCVBUF, SO_SNDTIMEO, SO_RCVTIMEO})
    filter.allow(SCMP_SYS(setsockopt), {SCMP_A1(SCMP_CMP_EQ, SOL_SOCKET),
                                        SCMP_A2(SCMP_CMP_EQ, static_cast<scmp_datum_t>(option))});
  filter.refuse(ENOENT, SCMP_SYS(connect));
  for (const int number : {SCMP_SYS(accept), SCMP_SYS(accept4)}) filter.refuse(EPERM, number);
}

/// A GPU's library talks to the driver in the kernel, each its own dialect. It would make the
/// device's files, and does without.
void add_devices(Filter& filter) {
  filter.allow(SCMP_SYS(ioctl));
  for (const int number : {SCMP_SYS(mknod), SCMP_SYS(mknodat)}) filter.refuse(EPERM, number);
  for (const int number : {SCMP_SYS(sched_get_priority_max), SCMP_SYS(sched_get_priority_min)})
    filter.allow(number);
  add_listening(filter);
}

void add_descriptors(Filter& filter, const Rules& rules) {
  const auto command = [](int value) {
    return SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(value));
  };
  for (const int allowed :
       {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_ADD_SEALS, F_GET_SEALS,
        F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW})
    filter.allow(SCMP_SYS(fcntl), {command(allowed)});
  // A standard stream asks whether it is a terminal. It is not.
  if (!rules.devices) filter.refuse(ENOTTY, SCMP_SYS(ioctl));
  // Libraries look for optional files, and name services for their daemon.
  for (const int number : by_path) {
    if (rules.files)
      filter.allow(number);
    else if (number == SCMP_SYS(newfstatat))  // how glibc asks about a descriptor
      filter.allow(number);
    else
      filter.refuse(EACCES, number);
  }
  if (rules.files) filter.allow_all(on_files);
  if (rules.programs) filter.allow_all(to_run_programs);
  if (rules.devices) add_devices(filter);
  if (rules.ring) filter.allow(SCMP_SYS(io_uring_enter));
  // Programs and what they are made of look for daemons, of name services or of a GPU's vendor.
  if (rules.programs && !rules.sockets && !rules.devices) filter.refuse(EACCES, SCMP_SYS(socket));
  if (!rules.sockets) return;
  filter.allow(SCMP_SYS(socket), {SCMP_A0(SCMP_CMP_EQ, AF_UNIX)});
  // Libraries try the network and do without.
  filter.refuse(EAFNOSUPPORT, SCMP_SYS(socket), {SCMP_A0(SCMP_CMP_NE, AF_UNIX)});
  filter.allow(SCMP_SYS(connect));
}

void add_control(Filter& filter) {
  for (const int option : {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS,
                           PR_CAPBSET_READ, PR_SET_VMA})
    filter.allow(SCMP_SYS(prctl), {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(option))});
  // Its own limits, to read; glibc asks for that of the stack.
  filter.allow(SCMP_SYS(prlimit64), {SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A2(SCMP_CMP_EQ, 0)});
  filter.refuse(EPERM, SCMP_SYS(setrlimit));
}

}  // namespace

Result<void> filter_syscalls(const Rules& rules) {
  // What GPUs' libraries call changes with each release; they can live with an error.
  Filter filter(rules.devices ? SCMP_ACT_ERRNO(ENOSYS) : SCMP_ACT_KILL_PROCESS);
  filter.allow_all(common);
  add_memory(filter, rules);
  add_threads(filter, rules);
  add_descriptors(filter, rules);
  add_control(filter);
  if (const int failed = filter.load(); failed != 0)
    return error(Code::not_supported, std::strerror(-failed));
  return {};
}

}  // namespace aios::sandbox
