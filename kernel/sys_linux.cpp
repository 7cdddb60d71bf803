#include "kernel/sys_linux.hpp"

#include <fcntl.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "abi/proto/link.hpp"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

namespace aios::kernel::sys {

namespace {

/// A new open file of what `fd` names.
Result<Fd> reopen(const Fd& fd, int flags) {
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", fd.get());
  const int copy = ::open(path.data(), flags | O_CLOEXEC);
  if (copy < 0) return errno_error("reopen descriptor", errno);
  return Fd(copy);
}

}  // namespace

std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

std::uint64_t memory_bytes() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void say(const std::string& line) {
  const std::string text = "aios-kernel: " + line + "\n";
  // Nobody is left to tell when standard error is gone.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

// ---- memory ---------------------------------------------------------------------------------

Result<MemoryFile> make_memory_file(const char* name, std::uint64_t size_bytes) {
  constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = ::memfd_create(name, flags | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(name, flags);
  if (fd < 0) return errno_error("make memory file", errno);
  MemoryFile file{Fd(fd), {}};
  // Reopened while the mode still allows it: an owner who is not root cannot reopen mode 0.
  file.read_only = TRY(reopen(file.writable, O_RDONLY));
  if (::fchmod(fd, 0) != 0) return errno_error("close memory file to others", errno);
  if (::ftruncate(fd, static_cast<off_t>(size_bytes)) != 0)
    return errno_error("size memory file", errno);
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return errno_error("seal memory file", errno);
  return file;
}

Result<void> allocate(const Fd& file, std::uint64_t offset, std::uint64_t size_bytes) {
  int failed = 0;
  do {
    failed = ::fallocate(file.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(size_bytes));
  } while (failed != 0 && errno == EINTR);
  if (failed == 0) return {};
  if (errno == ENOSPC || errno == ENOMEM)
    return error(Code::no_memory, "the machine has no memory left for this region");
  return errno_error("allocate region", errno);
}

void deallocate(const Fd& file, std::uint64_t offset, std::uint64_t size_bytes) {
  ::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
              static_cast<off_t>(size_bytes));
}

Result<void> seal_seals(const Fd& file) {
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SEAL) != 0) return errno_error("seal region", errno);
  return {};
}

Result<void> seal_future_writes(const Fd& file) {
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
    return errno_error("seal control region", errno);
  return {};
}

std::uint64_t read_word(const Fd& file, std::uint64_t offset) {
  std::uint64_t word = 0;
  const auto got = ::pread(file.get(), &word, sizeof word, static_cast<off_t>(offset));
  return got == static_cast<ssize_t>(sizeof word) ? word : 0;
}

// ---- pipes ----------------------------------------------------------------------------------

Result<Fd> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC) != 0) return errno_error("make doorbell", errno);
  const Fd read_end(ends[0]);
  const Fd write_end(ends[1]);
  // Best effort: over the user's budget of pipe pages it is smaller already.
  ::fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(proto::page_bytes));
  return reopen(write_end, O_RDWR | O_NONBLOCK);
}

Result<Fd> reopen_pipe(const Fd& pipe, bool read_only) {
  return reopen(pipe, (read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK);
}

void write_byte(const Fd& pipe) {
  const char byte = 1;
  // A full pipe rings already.
  [[maybe_unused]] const auto written = ::write(pipe.get(), &byte, 1);
}

// ---- sockets --------------------------------------------------------------------------------

Result<SocketPair> make_seqpacket_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return errno_error("make socket pair", errno);
  return SocketPair{Fd(ends[0]), Fd(ends[1])};
}

Result<Fd> listen_in(const std::filesystem::path& folder) {
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return errno_error("make socket", errno);
  const Fd directory(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return errno_error("open " + folder.string(), errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = folder / "aios.sock";
  if (path.size() >= sizeof address.sun_path)
    path = "/proc/self/fd/" + std::to_string(directory.get()) + "/aios.sock";
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  // The caller holds the folder's lock: a socket that is there belongs to a dead instance.
  ::unlinkat(directory.get(), "aios.sock", 0);
  const mode_t mask = ::umask(0177);
  const int bound = ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  const int bind_errno = errno;
  ::umask(mask);
  if (bound != 0) return errno_error("bind " + (folder / "aios.sock").string(), bind_errno);
  if (::listen(socket.get(), SOMAXCONN) != 0) return errno_error("listen", errno);
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
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
    peer.pidfd = Fd(pidfd);
  return peer;
}

bool can_identify_by_pidfd() {
  const auto pair = make_seqpacket_pair();
  if (!pair) return false;
  const auto peer = identify(pair->first);
  return peer && peer->pidfd.valid();
}

void refuse_descriptors(const Fd& socket) {
  const int off = 0;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off);
}

bool all_read(const Fd& socket) {
  int unread = 0;
  return ::ioctl(socket.get(), SIOCOUTQ, &unread) != 0 || unread == 0;
}

Result<std::size_t> receive(const Fd& socket, std::span<std::byte> buffer) {
  const auto got = ::recv(socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
  if (got < 0) return errno_error("receive", errno == EINTR ? EAGAIN : errno);
  return static_cast<std::size_t>(got);
}

Result<void> send(const Fd& socket, std::span<const std::byte> packet, std::span<const Fd> fds) {
  constexpr std::size_t max_fds = 4;
  assert(fds.size() <= max_fds);
  iovec data{const_cast<std::byte*>(packet.data()), packet.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * max_fds)> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    for (std::size_t i = 0; i < fds.size(); ++i) {
      const int fd = fds[i].get();
      std::memcpy(CMSG_DATA(header) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  if (::sendmsg(socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
    return errno_error("send", errno);
  return {};
}

// ---- the kernel itself ----------------------------------------------------------------------

Result<void> prepare_self() {
  for (;;) {
    const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno_error("open /dev/null", errno);
    if (fd <= 3) continue;
    ::close(fd);
    break;
  }
  ::signal(SIGPIPE, SIG_IGN);
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  return {};
}

Result<Fd> lock_folder(const std::filesystem::path& folder) {
  const std::string path = folder / "lock";
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return errno_error("open " + path, errno);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_error("lock " + path, errno);
    std::array<char, 16> holder{};
    const auto got = ::pread(file.get(), holder.data(), holder.size() - 1, 0);
    std::string text = "another instance uses this state folder";
    if (got > 0) text += " (pid " + std::string(holder.data(), static_cast<std::size_t>(got)) + ")";
    return error(Code::already_exists, text);
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(file.get(), 0) != 0 || ::pwrite(file.get(), pid.data(), pid.size(), 0) < 0)
    return errno_error("write " + path, errno);
  return file;
}

Result<Fd> make_signal_fd() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return errno_error("block signals", errno);
  const int fd = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (fd < 0) return errno_error("make signal descriptor", errno);
  return Fd(fd);
}

int take_signal(const Fd& signal_fd) {
  signalfd_siginfo info{};
  if (::read(signal_fd.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return 0;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace aios::kernel::sys
