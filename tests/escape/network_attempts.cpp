// Sockets of every kind, and what others hand out over them.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "tests/escape/attempts.hpp"

namespace aios::escape {

namespace {

bool connect_tcp(const Outside& outside) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(outside.tcp_port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return fd >= 0 && ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}
bool listen_tcp(const Outside&) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
         ::listen(fd, 1) == 0;
}
bool send_udp(const Outside&) {
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return fd >= 0 &&
         ::sendto(fd, "x", 1, 0, reinterpret_cast<sockaddr*>(&address), sizeof address) == 1;
}
bool make_ipv6_socket(const Outside&) {
  return ::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0;
}
bool make_netlink_socket(const Outside&) {
  return ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) >= 0;
}
bool make_packet_socket(const Outside&) {
  return ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0) >= 0;
}
bool make_raw_socket(const Outside&) {
  return ::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP) >= 0;
}
bool make_vsock_socket(const Outside&) {
  return ::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0;
}

/// Connects and takes the descriptor that is handed out there.
bool take_handed_out(const sockaddr_un& address, socklen_t size) {
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0) return false;
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(fd, &message, 0) != 1) return false;
  const cmsghdr* head = CMSG_FIRSTHDR(&message);
  if (head == nullptr || head->cmsg_type != SCM_RIGHTS) return false;
  int secret = -1;
  std::memcpy(&secret, CMSG_DATA(head), sizeof secret);
  return ::pread(secret, &byte, 1, 0) == 1;
}
bool take_file_over_path_socket(const Outside& outside) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  outside.socket_path.copy(address.sun_path, sizeof address.sun_path - 1);
  return take_handed_out(address, sizeof address);
}
bool take_file_over_abstract_socket(const Outside& outside) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::size_t size =
      outside.abstract_name.copy(address.sun_path + 1, sizeof address.sun_path - 1);
  return take_handed_out(address,
                         static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + size));
}
bool listen_abstract(const Outside&) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  // Linux chooses a name.
  return fd >= 0 &&
         ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address.sun_family) == 0;
}

/// It is a socket of another kind, which shows that it was reached.
bool send_datagram(const Outside& outside) {
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  outside.socket_path.copy(address.sun_path, sizeof address.sun_path - 1);
  return fd >= 0 && (::sendto(fd, "x", 1, 0, reinterpret_cast<const sockaddr*>(&address),
                              sizeof address) == 1 ||
                     errno == EPROTOTYPE);
}
/// And is found by those outside.
bool serve_abstract(const Outside& outside) {
  if (!listen_abstract(outside)) return false;
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = "\0escape"};
  constexpr socklen_t size = offsetof(sockaddr_un, sun_path) + sizeof "\0escape" - 1;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd, 1) != 0 ||
      ::fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
    return false;
  // EAGAIN: nobody has come, but would be let in.
  return ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC) >= 0 || errno == EAGAIN;
}
bool listen_by_path(const Outside& outside) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string path = outside.folder + "/listener" + std::to_string(::getpid());
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return false;
  ::unlink(path.c_str());
  return true;
}

constexpr Attempt attempts[] = {
    {"connect by TCP", connect_tcp},
    {"listen by TCP", listen_tcp},
    {"send by UDP", send_udp},
    {"make an IPv6 socket", make_ipv6_socket},
    {"make a netlink socket", make_netlink_socket},
    {"make a packet socket", make_packet_socket},
    {"make a raw socket", make_raw_socket},
    {"make a socket to the hypervisor", make_vsock_socket},
    {"take a file over a socket by path", take_file_over_path_socket},
    {"take a file over an abstract socket", take_file_over_abstract_socket},
    {"send a datagram to a socket by path", send_datagram},
    {"listen at an abstract socket", listen_abstract, 0, 0, true},
    {"serve at an abstract socket", serve_abstract},
    {"listen at a socket by path", listen_by_path},
};

}  // namespace

std::span<const Attempt> network_attempts() {
  return attempts;
}

}  // namespace aios::escape
