#include "tests/support/cuda_double/host.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <future>
#include <latch>
#include <string>
#include <thread>

namespace aios::cuda_double {

namespace {

bool refused(const char* what) {
  std::fprintf(stderr, "AIOS CUDA emulator: cannot %s: %s\n", what, std::strerror(errno));
  return false;
}

bool can_read(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  char byte = 0;
  const bool read = fd >= 0 && ::read(fd, &byte, 1) == 1;
  if (fd >= 0) ::close(fd);
  return read || refused(path);
}

bool reads_files() {
  for (const char* path : {"/proc/self/maps", "/proc/self/status", "/proc/devices"})
    if (!can_read(path)) return false;
  // The module of a node that is there must be, too.
  struct stat node {};
  return ::stat("/dev/nvidiactl", &node) != 0 || can_read("/sys/module/nvidia/initstate");
}

/// Drivers from 570 on name their threads when they start them, as seen of driver 580: not through
/// pthread_setname_np, which opens the file otherwise.
bool names_threads() {
  std::promise<pid_t> number;
  std::latch named(1);
  std::thread thread([&] {
    number.set_value(::gettid());
    named.wait();
  });
  const std::string file = "/proc/self/task/" + std::to_string(number.get_future().get()) + "/comm";
  std::FILE* const comm = std::fopen(file.c_str(), "w");
  const bool done =
      (comm != nullptr && std::fputs("cuda-EvtHandlr", comm) >= 0 && std::fclose(comm) == 0) ||
      refused("name a thread");
  named.count_down();
  thread.join();
  return done;
}

/// Other processes would ask there for the descriptor of managed memory.
bool listens() {
  struct stat space {};
  if (::stat("/proc/self/ns/pid", &space) != 0) return refused("ask for its namespace");
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const int size = std::snprintf(address.sun_path + 1, sizeof address.sun_path - 1,
                                 "cuda-uvmfd-%lu-%d", space.st_ino, ::getpid());
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return refused("make a socket");
  const auto bytes =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<std::size_t>(size));
  return (::bind(fd, reinterpret_cast<sockaddr*>(&address), bytes) == 0 && ::listen(fd, 1) == 0) ||
         refused("listen at a socket");
}

/// What it does without when it is refused, but must survive: a daemon that shares GPUs,
/// priorities.
void looks_around() {
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  const int on = 1;
  (void)::setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = "/tmp/nvidia-mps/control"};
  (void)::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
  if (fd >= 0) ::close(fd);
  (void)::sched_get_priority_max(SCHED_RR);
  (void)::sched_get_priority_min(SCHED_RR);
}

bool has_memory_files() {
  const int fd = ::memfd_create("nvidia", MFD_CLOEXEC);
  if (fd < 0) return refused("make a memory file");
  ::close(fd);
  return true;
}

}  // namespace

bool host_serves() {
  static const bool serves = [] {
    looks_around();
    return reads_files() && has_memory_files() && names_threads() && listens();
  }();
  return serves;
}

}  // namespace aios::cuda_double
