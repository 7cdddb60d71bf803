// What must work inside: the start of a GPU's library.
#include <fcntl.h>
#include <linux/random.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <latch>
#include <thread>

#include "tests/escape/attempts.hpp"

namespace aios::escape {

namespace {

bool asks_device() {
  const int device = ::open(stand_in, O_RDWR | O_CLOEXEC);
  int bits = 0;
  return device >= 0 && ::ioctl(device, RNDGETENTCNT, &bits) == 0;
}

bool names_another_thread() {
  std::latch named(1);
  std::thread thread([&named] { named.wait(); });
  errno = ::pthread_setname_np(thread.native_handle(), "named");
  const bool done = errno == 0;
  named.count_down();
  thread.join();
  return done;
}

bool listens() {
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string name = "escape-start-" + std::to_string(::getpid());
  name.copy(address.sun_path + 1, sizeof address.sun_path - 1);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
         ::listen(fd, 1) == 0;
}

bool reads(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  char byte = 0;
  return fd >= 0 && ::read(fd, &byte, 1) == 1;
}

/// A call that no profile has fails, where it would end any other process.
bool survives_what_is_unknown() {
  return ::syscall(SYS_swapoff, "/nowhere-at-all") != 0 && errno == ENOSYS;
}

}  // namespace

bool start_as_a_gpu_library(const Outside&) {
  struct stat space {};
  return asks_device() && reads("/proc/self/maps") && reads("/proc/devices") &&
         ::stat("/proc/self/ns/pid", &space) == 0 && names_another_thread() && listens() &&
         survives_what_is_unknown();
}

}  // namespace aios::escape
