#include "kernel/sys_linux.hpp"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "abi/proto/kernel.hpp"
#include "abi/proto/link.hpp"
#include "abi/runtime/socket.hpp"

namespace aios::kernel::sys {

namespace {

// Newer than the headers of Debian 12.
constexpr unsigned mfd_noexec_seal = 0x0008;
constexpr int so_peerpidfd = 77;
constexpr int so_passrights = 83;

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

Result<std::pair<Fd, Fd>> make_socket_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return errno_error("make socket pair", errno);
  return std::pair(Fd(ends[0]), Fd(ends[1]));
}

Result<Fd> listen_at(const std::filesystem::path& path) {
  Fd socket = TRY(listen_seqpacket(path));
  if (::chmod(path.c_str(), 0600) != 0 || ::fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0)
    return errno_error("prepare " + path.string(), errno);
  return socket;
}

Result<Fd> accept_from(const Fd& listener) {
  const int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
  if (fd >= 0) return Fd(fd);
  if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
    return errno_error("accept", EMFILE);
  return Fd();
}

Result<Peer> identify(const Fd& socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return errno_error("identify peer", errno);
  Peer peer{credentials.pid, credentials.uid, {}};
  int pidfd = -1;
  size = sizeof pidfd;
  if (::getsockopt(socket.get(), SOL_SOCKET, so_peerpidfd, &pidfd, &size) == 0)
    peer.pidfd = Fd(pidfd);
  return peer;
}

bool refuse_descriptors(const Fd& socket) {
  const int off = 0;
  return ::setsockopt(socket.get(), SOL_SOCKET, so_passrights, &off, sizeof off) == 0;
}

bool all_read(const Fd& socket) {
  int unread = 0;
  return ::ioctl(socket.get(), SIOCOUTQ, &unread) != 0 || unread == 0;
}

Result<Fd> lock_folder(const std::filesystem::path& folder) {
  const std::string path = folder / "lock";
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return errno_error("open " + path, errno);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_error("lock " + path, errno);
    std::string holder(16, '\0');
    holder.resize(std::max<ssize_t>(::pread(file.get(), holder.data(), holder.size(), 0), 0));
    return error(Code::already_exists, "another instance uses this state folder" +
                                           (holder.empty() ? "" : " (pid " + holder + ")"));
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(file.get(), 0) != 0 || ::pwrite(file.get(), pid.data(), pid.size(), 0) < 0)
    return errno_error("write " + path, errno);
  return file;
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
