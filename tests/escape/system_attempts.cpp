// The intricate and the privileged parts of Linux.
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <mqueue.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tests/escape/attempts.hpp"

namespace aios::escape {

namespace {

bool make_ring(const Outside&) {
  io_uring_params parameters{};
  return ::syscall(SYS_io_uring_setup, 4, &parameters) >= 0;
}
bool register_with_ring(const Outside&) {
  // Of a descriptor that is no ring: EOPNOTSUPP or EBADF means that the call was served.
  return ::syscall(SYS_io_uring_register, 0, IORING_REGISTER_PROBE, nullptr, 0) == 0 ||
         errno == EOPNOTSUPP || errno == EBADF;
}
bool load_bpf(const Outside&) {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = 4;
  attributes.value_size = 8;
  attributes.max_entries = 1;
  return ::syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes) >= 0;
}
bool open_performance_counter(const Outside&) {
  perf_event_attr attributes{};
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.size = sizeof attributes;
  attributes.config = PERF_COUNT_SW_CPU_CLOCK;
  attributes.exclude_kernel = 1;
  return ::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0) >= 0;
}
bool add_key(const Outside&) {
  constexpr int process_keyring = -2;
  return ::syscall(SYS_add_key, "user", "escape", "x", 1, process_keyring) >= 0;
}
bool search_keys(const Outside&) {
  constexpr int get_keyring_id = 0;
  constexpr int session_keyring = -3;
  return ::syscall(SYS_keyctl, get_keyring_id, session_keyring, 1) >= 0;
}
bool handle_faults(const Outside&) {
  constexpr int user_mode_only = 1;
  return ::syscall(SYS_userfaultfd, user_mode_only) >= 0;
}
bool change_personality(const Outside&) {
  return ::personality(ADDR_NO_RANDOMIZE) >= 0;
}
bool change_segments(const Outside&) {
  char entries[16];
  return ::syscall(SYS_modify_ldt, 0, entries, sizeof entries) >= 0;
}
bool call_as_32_bit(const Outside&) {
  long result = -1;
  constexpr long getpid_of_i386 = 20;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(getpid_of_i386) : "memory");
  return result > 0;
}
bool call_as_x32(const Outside&) {
  constexpr long x32_bit = 0x40000000;
  return ::syscall(x32_bit | SYS_getpid) > 0;
}
bool wait_with_inheritance(const Outside&) {
  unsigned word = 0;
  return ::syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, nullptr, nullptr, 0) == 0;
}
bool requeue_waiters(const Outside&) {
  unsigned words[2] = {};
  return ::syscall(SYS_futex, &words[0], FUTEX_REQUEUE, 1, 1, &words[1], 0) >= 0;
}
bool trace_memory(const Outside&) {
  return ::syscall(SYS_fanotify_init, 0, O_RDONLY) >= 0;
}
// Where the right is checked before the argument a senseless one shows as well that the call was
// served, and harms nobody who lets it happen.
bool set_clock(const Outside&) {
  timex times{};
  times.modes = ADJ_SETOFFSET;
  times.time.tv_usec = -1;
  return ::adjtimex(&times) >= 0 || errno == EINVAL;
}
bool set_host_name(const Outside&) {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return ::sethostname(name, std::strlen(name)) == 0;
}
bool read_kernel_log(const Outside&) {
  char bytes[64];
  constexpr int read_all = 3;
  return ::klogctl(read_all, bytes, sizeof bytes) >= 0;
}
bool load_module(const Outside&) {
  return ::syscall(SYS_init_module, nullptr, 0, "") == 0 || errno == ENOEXEC || errno == EFAULT;
}
bool reach_ports(const Outside&) {
  return ::syscall(SYS_iopl, 3) == 0;
}
bool swap(const Outside&) {
  return ::syscall(SYS_swapoff, "/nowhere-at-all") == 0 || errno == ENOENT;
}
bool reboot(const Outside&) {
  return ::syscall(SYS_reboot, 0, 0, 0, nullptr) == 0 || errno == EINVAL;
}
bool share_memory_by_number(const Outside&) {
  return ::shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600) >= 0;
}
bool make_message_queue(const Outside&) {
  mq_attr attributes{};
  attributes.mq_maxmsg = 1;
  attributes.mq_msgsize = 8;
  if (::syscall(SYS_mq_open, "escape", O_CREAT | O_RDWR, 0600, &attributes) < 0) return false;
  ::syscall(SYS_mq_unlink, "escape");
  return true;
}
bool run_before_others(const Outside&) {
  const sched_param parameters{.sched_priority = 1};
  return ::sched_setscheduler(0, SCHED_FIFO, &parameters) == 0;
}
bool take_priority(const Outside&) {
  return ::setpriority(PRIO_PROCESS, 0, -5) == 0;
}
bool lock_memory(const Outside&) {
  constexpr std::size_t size = 1 << 20;
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return ::mlock(memory, size) == 0;
}
bool raise_limits(const Outside&) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_CORE, &limit) != 0) return false;
  if (limit.rlim_max == RLIM_INFINITY)
    limit.rlim_cur = RLIM_INFINITY;
  else
    limit.rlim_max = limit.rlim_cur = RLIM_INFINITY;
  return ::setrlimit(RLIMIT_CORE, &limit) == 0;
}
bool type_into_a_terminal(const Outside&) {
  // A terminal would be served; anything else but the filter says that there is none.
  char byte = 'x';
  const int terminal = ::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  return terminal >= 0 &&
         (::ioctl(terminal, TIOCSTI, &byte) == 0 || errno == EIO || errno == EPERM);
}
bool map_code(const Outside&) {
  return ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0) != MAP_FAILED;
}

constexpr std::uint32_t with_code =
    only({Profile::context, Profile::jit, Profile::tool, Profile::streaming});

constexpr Attempt attempts[] = {
    {"make an io_uring", make_ring},
    {"register with an io_uring", register_with_ring},
    {"load BPF", load_bpf},
    {"open a performance counter", open_performance_counter},
    {"add a key", add_key},
    {"search keys", search_keys},
    {"handle page faults", handle_faults},
    {"change its personality", change_personality},
    {"read its segments", change_segments},
    {"call as a 32-bit program", call_as_32_bit},
    {"call as an x32 program", call_as_x32},
    {"wait with inheritance of priority", wait_with_inheritance},
    {"requeue waiters", requeue_waiters},
    {"watch the file system", trace_memory},
    {"set the clock", set_clock},
    {"set the host name", set_host_name},
    {"read the kernel's log", read_kernel_log},
    {"load a kernel module", load_module},
    {"reach I/O ports", reach_ports},
    {"end swapping", swap},
    {"restart the machine", reboot},
    {"share memory by number", share_memory_by_number},
    {"make a message queue", make_message_queue},
    {"run before all others", run_before_others},
    {"take priority", take_priority},
    {"lock memory", lock_memory},
    {"raise its limits", raise_limits},
    {"type into a terminal", type_into_a_terminal},
    {"map memory as code", map_code, with_code},
};

}  // namespace

std::span<const Attempt> system_attempts() {
  return attempts;
}

}  // namespace aios::escape
