// What the kernel's calls have in common: handles, rights, signals and the head of every packet.
// See abi/proto/kernel.hpp.
#pragma once

#include <cstdint>

#include "abi/proto/sandbox.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::kernel {

inline constexpr std::uint32_t abi_version = 6;
/// A child finds its kernel socket here.
inline constexpr int child_socket_fd = 3;

using Handle = std::uint64_t;

enum class ObjectType : std::uint32_t {
  none = 0,
  job = 1,
  process = 2,
  region = 3,
  file = 4,
  port = 5,
  link = 6,
  spawner = 7,
};

/// What may happen to a region's bytes.
enum class RegionKind : std::uint32_t {
  none = 0,     ///< not a region
  data = 1,     ///< written by whoever holds a write grant
  control = 2,  ///< half of a link, a status page or a kernel page: one writer for ever
  frozen = 3,   ///< written by nobody, ever again
};

/// Rights. What each lets its holder do is written at the methods.
namespace rights {
inline constexpr std::uint32_t info = 1u << 0;
inline constexpr std::uint32_t duplicate = 1u << 1;  ///< handle_duplicate and keep
inline constexpr std::uint32_t send = 1u << 2;       ///< may be named in link_send
inline constexpr std::uint32_t map_read = 1u << 3;   ///< region_map, file_open
inline constexpr std::uint32_t map_write = 1u << 4;  ///< region_map, region_freeze
inline constexpr std::uint32_t connect = 1u << 5;    ///< port
inline constexpr std::uint32_t accept = 1u << 6;     ///< port; receives its signal
/// job: create in it, list; process: signal, kill; port: set down
inline constexpr std::uint32_t manage = 1u << 7;
inline constexpr std::uint32_t wait = 1u << 8;    ///< process, job: receives its signals
inline constexpr std::uint32_t act = 1u << 9;     ///< job: do work on its behalf
inline constexpr std::uint32_t spawn = 1u << 10;  ///< spawner
inline constexpr std::uint32_t all = (1u << 11) - 1;
}  // namespace rights

/// Signals are bits on a handle: raised by the kernel, cleared when signal_next reports them.
namespace signal {
inline constexpr std::uint32_t exited = 1u << 0;           ///< process
inline constexpr std::uint32_t connect_pending = 1u << 1;  ///< port, at handles with `accept`
inline constexpr std::uint32_t established = 1u << 2;      ///< link, at the connecting side
inline constexpr std::uint32_t closed = 1u << 3;           ///< link
inline constexpr std::uint32_t empty = 1u << 4;            ///< job: its last process is gone
inline constexpr std::uint32_t shutdown = 1u << 5;         ///< root job: the instance is to stop
}  // namespace signal

/// Every child has its own process group and no new privileges; all but `open` ones have
/// namespaces of their own as well, where the host allows it.
using sandbox::Profile;

/// What kind of process a peer is, for what servers let it do.
enum class PeerRole : std::uint32_t {
  program = 0,           ///< from outside; it may see and end what is its user's, and no more
  operator_program = 1,  ///< from outside, of root or the instance's own user: it may everything
  child = 2,             ///< started by AIOS: a server, or a context
};

struct CallHeader {
  std::uint32_t opcode;
  std::uint32_t length;   ///< of the Request that follows
  std::uint64_t call_id;  ///< repeated in the reply
  AIOS_FIELDS(CallHeader, opcode, length, call_id)
};

struct KernelReply {
  std::uint32_t status;  ///< aios::Code; the Reply follows only when it is ok
  std::uint32_t fd_count;
  std::uint64_t call_id;
  Text<112> text;  ///< what was wrong, when status is not ok
  AIOS_FIELDS(KernelReply, status, fd_count, call_id, text)
};
static_assert(sizeof(KernelReply) == 128);

using Name = Text<32>;
using Label = Text<32>;

/// What a job and those below it may have; a zero is limited by the jobs above alone. The kernel
/// counts memory of regions, processes of AIOS and programs that attached, handles and links. Where
/// the host has control groups Linux holds the job to more: to as much memory of its processes' own
/// as of regions, to the CPU share, and the programs that are confined in it (Hello) to as many
/// processes, with their threads.
struct Quota {
  std::uint64_t memory_bytes;
  std::uint32_t processes;
  std::uint32_t handles;
  std::uint32_t links;
  std::uint32_t cpu_millis;  ///< thousandths of a core
  AIOS_FIELDS(Quota, memory_bytes, processes, handles, links, cpu_millis)
};

/// What Linux holds a job to, by its control group or one above it: bits of JobRecord::enforced.
namespace enforced {
inline constexpr std::uint32_t memory = 1;
inline constexpr std::uint32_t cpu = 2;
inline constexpr std::uint32_t processes = 4;
}  // namespace enforced

}  // namespace aios::proto::kernel
