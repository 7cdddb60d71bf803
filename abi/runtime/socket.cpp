#include "abi/runtime/socket.hpp"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace aios {
namespace {

// Newer than the headers of Debian 12.
constexpr int so_peerpidfd = 77;
constexpr int so_passrights = 83;

/// A socket address for `path`. A path that does not fit is named through its folder, opened as
/// `folder`, which must live until the address was used.
Result<sockaddr_un> address_of(const std::string& path, Fd& folder) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string text = path;
  if (text.size() >= sizeof address.sun_path) {
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    folder = Fd(::open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder.valid()) return errno_error("open folder of socket " + path, errno);
    text = "/proc/self/fd/" + std::to_string(folder.get()) + "/" + path.substr(slash + 1);
    if (text.size() >= sizeof address.sun_path)
      return error(Code::too_large, "the socket's file name is too long: " + path);
  }
  std::memcpy(address.sun_path, text.c_str(), text.size() + 1);
  return address;
}

Result<Fd> new_socket(int flags = 0) {
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!socket.valid()) return errno_error("make socket", errno);
  return socket;
}

/// Of those who are about to listen at `path`, one at a time may look whether it is free. What they
/// lock is gone afterwards.
class Turn {
 public:
  static Result<Turn> take(const std::string& path) {
    Turn turn;
    turn.name_ = path + ".lock";
    // Who had it before may have removed what was waited for.
    while (!TRY(turn.lock())) {
    }
    return turn;
  }
  Turn(Turn&&) = default;
  ~Turn() {
    if (file_.valid()) ::unlink(name_.c_str());
  }

 private:
  Turn() = default;
  /// Whether what was locked still has its name.
  Result<bool> lock() {
    Fd file(::open(name_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    struct stat own {};
    struct stat named {};
    if (!file.valid() || ::fstat(file.get(), &own) != 0) return errno_error("open " + name_, errno);
    // Who else could open it could have everybody wait.
    if (own.st_uid != ::geteuid())
      return error(Code::denied,
                   name_ + " is another user's: remove it, or have the socket elsewhere");
    while (::flock(file.get(), LOCK_EX) != 0)
      if (errno != EINTR) return errno_error("lock " + name_, errno);
    if (::lstat(name_.c_str(), &named) != 0 || named.st_ino != own.st_ino ||
        named.st_dev != own.st_dev)
      return false;
    file_ = std::move(file);
    return true;
  }

  std::string name_;
  Fd file_;
};

/// Removes a socket at which nobody listens any more; already_exists for anything else.
Result<void> make_free(const std::string& path, const sockaddr_un& address) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 && errno == ENOENT) return {};
  if (!S_ISSOCK(info.st_mode))
    return error(Code::already_exists,
                 path + " is not a socket: remove it, or name another with --socket");
  const Fd caller = TRY(new_socket(SOCK_NONBLOCK));
  // Only this one says that there is nobody; a socket of another kind, or a busy one, is in use.
  if (::connect(caller.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno != ECONNREFUSED)
    return error(Code::already_exists, "another program listens at " + path);
  if (::unlink(path.c_str()) != 0) return errno_error("remove " + path, errno);
  return {};
}

/// Whether that process is in another user namespace; also when it does not let itself be looked
/// at. One of another pid namespace that has no number here cannot have been started from here.
bool is_elsewhere(pid_t pid) {
  struct stat own {};
  struct stat other {};
  if (pid == 0 || ::stat("/proc/self/ns/user", &own) != 0) return false;
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/user";
  return ::stat(path.c_str(), &other) != 0 || own.st_ino != other.st_ino;
}

}  // namespace

Result<Fd> connect_seqpacket(const std::string& path, Deadline deadline) {
  constexpr int pause_ms = 10;
  Fd folder;
  const sockaddr_un address = TRY(address_of(path, folder));
  Fd socket = TRY(new_socket(SOCK_NONBLOCK));
  while (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
         0) {
    if (errno == EAGAIN && deadline.passed())
      return error(Code::timed_out, "nobody was let in at " + path + " in time");
    if (errno == EAGAIN) {
      // As many wait as may. Nothing tells when there is room again.
      ::poll(nullptr, 0, pause_ms);
      continue;
    }
    if (errno == EACCES)
      return error(Code::denied, "this user may not use the instance at " + path +
                                     ": the mode and the group of that socket say who may");
    return error(Code::unreachable, "no AIOS instance answers at " + path + " (" +
                                        std::strerror(errno) + "); start one with: aiosctl boot");
  }
  if (::fcntl(socket.get(), F_SETFL, 0) != 0) return errno_error("have a socket block", errno);
  return socket;
}

Result<Fd> listen_seqpacket(const std::string& path) {
  Fd folder;
  const sockaddr_un address = TRY(address_of(path, folder));
  Fd socket = TRY(new_socket());
  const Turn turn = TRY(Turn::take(path));
  TRY(make_free(path, address));
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return errno_error("bind " + path, errno);
  if (::chmod(path.c_str(), 0600) != 0 || ::fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0 ||
      ::listen(socket.get(), 64) != 0)
    return errno_error("listen at " + path, errno);
  return socket;
}

Result<std::pair<Fd, Fd>> make_socket_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return errno_error("make socket pair", errno);
  return std::pair(Fd(ends[0]), Fd(ends[1]));
}

Result<void> open_to_group(const std::string& path, gid_t group) {
  if (::chown(path.c_str(), static_cast<uid_t>(-1), group) == 0 && ::chmod(path.c_str(), 0660) == 0)
    return {};
  return errno_error("give the socket " + path + " to group " + std::to_string(group), errno);
}

Result<Fd> accept_seqpacket(const Fd& listener) {
  const int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
  if (fd >= 0) return Fd(fd);
  if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
    return errno_error("accept", EMFILE);
  return Fd();
}

Result<SocketPeer> identify_peer(const Fd& socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return errno_error("identify peer", errno);
  SocketPeer peer{credentials.pid, credentials.uid, {}, false};
  int pidfd = -1;
  size = sizeof pidfd;
  if (::getsockopt(socket.get(), SOL_SOCKET, so_peerpidfd, &pidfd, &size) == 0)
    peer.pidfd = Fd(pidfd);
  if (credentials.uid != ::geteuid()) return peer;
  // If it lives yet after it was looked at, its number was nobody else's then.
  peer.confined =
      is_elsewhere(credentials.pid) ||
      (peer.pidfd.valid() &&
       ::syscall(SYS_pidfd_send_signal, peer.pidfd.get(), 0, nullptr, 0) != 0 && errno == ESRCH);
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

namespace {

Fd fd_at(const unsigned char* place) {
  int fd = -1;
  std::memcpy(&fd, place, sizeof fd);
  return Fd(fd);
}

}  // namespace

Result<void> receive_packet(int socket, std::span<std::byte> buffer, int flags,
                            ReceivedPacket& packet) {
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int) * max_packet_fds)];
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n = 0;
  do n = ::recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n < 0) return errno_error("receive", errno);
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      Fd fd = fd_at(CMSG_DATA(c) + i * sizeof(int));
      // What there is no memory for is lost like what there was no descriptor for.
      try {
        packet.fds.push_back(std::move(fd));
      } catch (const std::bad_alloc&) {
        message.msg_flags |= MSG_CTRUNC;
      }
    }
  }
  packet.bytes = static_cast<std::size_t>(n);
  packet.truncated = (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0;
  if (n == 0) return error(Code::peer_closed, "the other end closed the socket");
  return {};
}

void stop_receiving(int socket) {
  ::shutdown(socket, SHUT_RD);
  std::byte byte;
  while (::recv(socket, &byte, sizeof byte, MSG_DONTWAIT) > 0) {
  }
}

Result<void> send_packet(int socket, std::span<const std::byte> bytes, std::span<const int> fds,
                         int flags) {
  if (fds.size() > max_packet_fds)
    return error(Code::too_large, "too many descriptors for a packet");
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int) * max_packet_fds)];
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(head), fds.data(), fds.size_bytes());
  }
  ssize_t n = 0;
  do n = ::sendmsg(socket, &message, flags | MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  if (n < 0) return errno_error("send", errno);
  return {};
}

}  // namespace aios
