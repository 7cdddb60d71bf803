// Unix SOCK_SEQPACKET sockets with descriptors riding along.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"
#include "abi/runtime/time.hpp"

namespace aios {

/// Descriptors that one packet may carry; more are refused by closing them all.
inline constexpr int max_packet_fds = 253;

struct ReceivedPacket {
  std::size_t bytes = 0;
  bool truncated = false;  ///< of data or descriptors
  std::vector<Fd> fds;     ///< close-on-exec
};

/// Connects to the socket at `path`, however long. unreachable when nobody listens there; timed_out
/// when who does had taken none of those who wait by `deadline`: one that has passed is a try.
Result<Fd> connect_seqpacket(const std::string& path, Deadline deadline = Deadline::never());

/// Binds and listens at `path`, however long; its mode is 0600. A socket at which nobody listens
/// any more is replaced; already_exists for whatever else is there. Those who try at once take
/// turns by `path`.lock; denied when that is another user's. Accepting does not block.
Result<Fd> listen_seqpacket(const std::string& path);
/// Lets the members of a group, named by its number, connect as well.
Result<void> open_to_group(const std::string& path, gid_t group);
/// The next connection; invalid when there is none. quota when no descriptor is left.
Result<Fd> accept_seqpacket(const Fd& listener);
/// Two ends of a connection.
Result<std::pair<Fd, Fd>> make_socket_pair();

/// Who connected: its process as this one's pid namespace numbers it, 0 when it is not in there.
struct SocketPeer {
  pid_t pid = 0;
  uid_t uid = 0;
  Fd pidfd;  ///< invalid where the host gives none
  /// Of this process's own user, and yet in another user namespace: it was locked in by somebody.
  bool confined = false;
};
Result<SocketPeer> identify_peer(const Fd& socket);
/// Refuses descriptors sent to this socket; false where the host cannot.
bool refuse_descriptors(const Fd& socket);
/// True when everything sent has been read by the other end.
bool all_read(const Fd& socket);

/// One packet into `buffer`. `flags` as for recvmsg. peer_closed at end of file; busy when
/// MSG_DONTWAIT is among the flags and nothing is there.
Result<void> receive_packet(int socket, std::span<std::byte> buffer, int flags,
                            ReceivedPacket& packet);

/// Takes nothing more from the peer, and drops what it has sent. Before the last packet to it and
/// close: unread packets would make Linux report a reset in place of that last packet.
void stop_receiving(int socket);

/// Sends one packet with descriptors. busy when MSG_DONTWAIT is among the flags and it would block.
Result<void> send_packet(int socket, std::span<const std::byte> bytes, std::span<const int> fds,
                         int flags);

}  // namespace aios
