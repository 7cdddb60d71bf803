// The kernel's calls about ports and links. See abi/proto/kernel.hpp.
#pragma once

#include <cstdint>

#include "abi/proto/kernel_types.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::kernel {

/// A place to connect to. The handle has every port right in both masks.
struct PortCreate {
  static constexpr std::uint16_t opcode = 60;
  static constexpr const char* name = "port_create";
  struct Request {
    Name name;
    AIOS_FIELDS(Request, name)
  };
  struct Reply {
    Handle port;
    AIOS_FIELDS(Reply, port)
  };
};

/// Outside programs find `port` (connect only) under `label` when they attach. The supervisor's
/// alone: needs manage on the root job, shown as `root`.
struct PortPublish {
  static constexpr std::uint16_t opcode = 61;
  static constexpr const char* name = "port_publish";
  struct Request {
    Handle root;
    Handle port;
    Label label;
    AIOS_FIELDS(Request, root, port, label)
  };
  using Reply = Empty;
};

/// Says whether nobody will accept at this port any more, for good or until the next call: while it
/// is down the connections that wait are closed and new ones are refused with service_down. Needs
/// manage, which the port's maker has. handle_info tells it as `detail`.
struct PortSetDown {
  static constexpr std::uint16_t opcode = 67;
  static constexpr const char* name = "port_set_down";
  struct Request {
    Handle port;
    std::uint64_t down;  ///< 1 or 0
    AIOS_FIELDS(Request, port, down)
  };
  using Reply = Empty;
};

/// Asks for a link. Needs connect; service_down. Fds: own half (read-write), own doorbell's read
/// end, the peer's doorbell's write end. Map the half, then link_ready. The connection waits at the
/// port until a server accepts it; `protocol_version` is shown to that server.
struct PortConnect {
  static constexpr std::uint16_t opcode = 62;
  static constexpr const char* name = "port_connect";
  struct Request {
    Handle port;
    std::uint64_t protocol_version;
    AIOS_FIELDS(Request, port, protocol_version)
  };
  struct Reply {
    Handle link;
    std::uint32_t index;  ///< of the link's bit in the kernel page
    std::uint32_t reserved;
    AIOS_FIELDS(Reply, link, index, reserved)
  };
};

/// Takes the oldest waiting connection; busy when there is none (wait for connect_pending). Needs
/// accept. Fds as port_connect.
struct PortAccept {
  static constexpr std::uint16_t opcode = 63;
  static constexpr const char* name = "port_accept";
  struct Request {
    Handle port;
    AIOS_FIELDS(Request, port)
  };
  struct Reply {
    Handle link;
    std::uint32_t index;
    std::uint32_t uid;  ///< the peer's, as the kernel knows it
    std::uint64_t peer_process_id;
    std::uint64_t peer_job_id;
    std::uint64_t protocol_version;
    std::uint32_t role;  ///< PeerRole
    std::uint32_t reserved;
    Name peer_name;
    Name peer_job_name;
    AIOS_FIELDS(Reply, link, index, uid, peer_process_id, peer_job_id, protocol_version, role,
                reserved, peer_name, peer_job_name)
  };
};

/// The own half is mapped: it is sealed against further writers. Fds, when the peer has done the
/// same: the peer's half (read-only), the peer's status page (read-only). The connecting side gets
/// them by a second call after `established`; until then it gets none and `open` is 0.
/// peer_closed when the other side is gone.
struct LinkReady {
  static constexpr std::uint16_t opcode = 64;
  static constexpr const char* name = "link_ready";
  struct Request {
    Handle link;
    AIOS_FIELDS(Request, link)
  };
  struct Reply {
    std::uint64_t open;  ///< 1: the fds are here
    AIOS_FIELDS(Reply, open)
  };
};

inline constexpr std::uint32_t max_sent_handles = 16;
/// Installs handles at the peer, all or none, and returns their numbers there. Each needs send; the
/// new masks lie within the sender's grant mask. `move` also takes the sender's handle away.
/// wrong_type when an entry is not of `expected_type`; a link cannot carry itself or any other
/// link. quota when the peer's table is full; peer_closed. A handle that its receiver has not named
/// in any call when it closes the link is closed with it.
struct LinkSend {
  static constexpr std::uint16_t opcode = 65;
  static constexpr const char* name = "link_send";
  struct Entry {
    Handle handle;
    std::uint32_t expected_type;
    std::uint32_t use;
    std::uint32_t grant;
    std::uint32_t move;  ///< 1: move, 0: duplicate
    AIOS_FIELDS(Entry, handle, expected_type, use, grant, move)
  };
  struct Request {
    Handle link;
    std::uint64_t count;
    Entry entries[max_sent_handles];
    AIOS_FIELDS(Request, link, count, entries)
  };
  struct Reply {
    Handle handles[max_sent_handles];
    AIOS_FIELDS(Reply, handles)
  };
};

/// The first link with an id above `after` of which one side is in `job` or below; id 0 ends.
/// Needs manage on the job.
struct LinkNext {
  static constexpr std::uint16_t opcode = 66;
  static constexpr const char* name = "link_next";
  struct Request {
    Handle job;
    std::uint64_t after;
    AIOS_FIELDS(Request, job, after)
  };
  struct Reply {
    std::uint64_t link_id;
    std::uint64_t client_process_id;
    std::uint64_t server_process_id;  ///< 0 while it waits at the port
    std::uint32_t state;  ///< 0 connecting, 1 waiting at the port, 2 accepted, 3 open, 4 closed
    std::uint32_t reserved;
    std::uint64_t sent_slots[2];  ///< by the client, by the server: consumed by the other side
    Name port_name;
    Name client_name;
    Name server_name;
    AIOS_FIELDS(Reply, link_id, client_process_id, server_process_id, state, reserved, sent_slots,
                port_name, client_name, server_name)
  };
};

}  // namespace aios::proto::kernel
