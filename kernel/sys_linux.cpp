#include "kernel/sys_linux.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "abi/proto/kernel.hpp"
#include "abi/proto/link.hpp"

namespace aios::kernel::sys {

namespace {

// Newer than the headers of Debian 12.
constexpr unsigned mfd_noexec_seal = 0x0008;

/// A new open file of what `fd` names.
Result<Fd> reopen(const Fd& fd, int flags) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  const int copy = ::open(path.c_str(), flags | O_CLOEXEC);
  if (copy < 0) return errno_error("reopen descriptor", errno);
  return Fd(copy);
}

}  // namespace

Result<MemoryFile> make_memory_file(std::uint64_t size_bytes) {
  constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = ::memfd_create("aios-region", flags | mfd_noexec_seal);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create("aios-region", flags);
  if (fd < 0) return errno_error("make memory file", errno);
  MemoryFile file{Fd(fd), {}};
  // Reopened while the mode still allows it: an owner who is not root cannot reopen mode 0.
  file.read_only = TRY(reopen(file.writable, O_RDONLY));
  if (::fchmod(fd, 0) != 0 || ::ftruncate(fd, static_cast<off_t>(size_bytes)) != 0 ||
      ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return errno_error("prepare memory file", errno);
  return file;
}

Result<void> allocate(const Fd& file, std::uint64_t offset, std::uint64_t size_bytes) {
  const auto from = static_cast<off_t>(offset);
  while (::fallocate(file.get(), 0, from, static_cast<off_t>(size_bytes)) != 0) {
    if (errno == EINTR) continue;
    if (errno != ENOSPC && errno != ENOMEM) return errno_error("allocate region", errno);
    return error(Code::no_memory, "the machine has no memory left for this region");
  }
  return {};
}

bool deallocate(const Fd& file, std::uint64_t offset, std::uint64_t size_bytes) {
  return ::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     static_cast<off_t>(offset), static_cast<off_t>(size_bytes)) == 0;
}

Result<void> seal(const Fd& file, bool future_writes) {
  const int seals = F_SEAL_SEAL | (future_writes ? F_SEAL_FUTURE_WRITE : 0);
  if (::fcntl(file.get(), F_ADD_SEALS, seals) != 0) return errno_error("seal region", errno);
  return {};
}

bool is_frozen(const Fd& file) {
  return (::fcntl(file.get(), F_GET_SEALS) & F_SEAL_WRITE) != 0;
}

Result<Doorbell> Doorbell::create() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC) != 0) return errno_error("make doorbell", errno);
  const Fd read_end(ends[0]);
  const Fd write_end(ends[1]);
  // Best effort: over the user's budget of pipe pages it is smaller already.
  ::fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(proto::page_bytes));
  Doorbell bell;
  bell.pipe_ = TRY(reopen(write_end, O_RDWR | O_NONBLOCK));
  return bell;
}

Result<Fd> Doorbell::reader() const {
  return reopen(pipe_, O_RDONLY | O_NONBLOCK);
}
Result<Fd> Doorbell::ringer() const {
  return reopen(pipe_, O_RDWR | O_NONBLOCK);
}

void Doorbell::ring() const {
  // A full pipe rings already.
  if (valid()) (void)!::write(pipe_.get(), "", 1);
}

Fd open_null() {
  return Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
}

Result<void> watch(const Fd& epoll, const Fd& fd, std::uint32_t events, std::uint64_t tag) {
  epoll_event event{events, {.u64 = tag}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, fd.get(), &event) == 0 ||
      ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd.get(), &event) == 0)
    return {};
  return errno_error("watch descriptor", errno);
}

void unwatch(const Fd& epoll, const Fd& fd) {
  if (fd.valid()) ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, fd.get(), nullptr);
}

}  // namespace aios::kernel::sys
