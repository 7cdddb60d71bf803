// The kernel's calls: what a process can ask of aios-kernel, over its SOCK_SEQPACKET socket.
//
// One packet is one call: a CallHeader and the method's Request, exactly. One packet comes back: a
// ReplyHeader-like KernelReply and, when its status is ok, the method's Reply; file descriptors
// ride with it, as many as `fd_count` says and in the order the method documents. No call blocks on
// another process; `busy` says to wait for a signal and ask again. A call is served only after the
// process has read its last reply. A call that returns descriptors is `quota`, and makes nothing,
// as long as so many descriptors sent to or by its user are unread that Linux takes no more (after
// such a hello only a new connection helps). A malformed packet ends the connection, and with it
// the process.
//
// Every object is named by a handle: 32 bits of index, 32 bits of generation; 0 is never valid.
// A handle carries two masks of rights: `use`, what the holder may do, and `grant`, what handles it
// gives to others may carry (in either mask). Neither ever grows.
#pragma once

#include <cstdint>

#include "abi/proto/kernel_links.hpp"
#include "abi/proto/kernel_types.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::kernel {

/// The job below a tenant's in which its contexts are. No name that a process may choose is like
/// it.
inline constexpr std::string_view contexts_job = ":contexts";

// ---- the process itself ---------------------------------------------------------------------

/// First call of every process. Fds: status page (read-write), kernel page (read-only), the read
/// end of the kernel doorbell. The status page must then be mapped and confirmed by `ready`. An
/// outside program joins job `user:UID`, or the job `job_name` below it, which is made with `quota`
/// if it is not there (a zero field inherits) and dies with its last outside process; children of
/// AIOS leave the name empty. `confine`: the process, and what it starts from now on, is moved into
/// the job's control group, where there is one: it is held to the quota and is killed when the job
/// ends. version_mismatch, whatever its length, naming the kernel's version; quota;
/// invalid_argument for a bad name; not_supported when a process is to be confined that the kernel
/// cannot see.
struct Hello {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "hello";
  struct Request {
    std::uint32_t version;
    std::uint32_t confine;  ///< 0 or 1
    Name job_name;
    Quota quota;
    AIOS_FIELDS(Request, version, confine, job_name, quota)
  };
  struct Reply {
    std::uint64_t process_id;
    std::uint64_t job_id;
    Handle job;           ///< own job: use info|wait|send (outside programs: manage, too), grant
                          ///< info|act|send|duplicate
    std::uint64_t epoch;  ///< grows each time a process of this name is spawned in its job
    std::uint64_t reserved;
    AIOS_FIELDS(Reply, process_id, job_id, job, epoch, reserved)
  };
};

/// The status page is mapped: it is sealed against further writers. Needed before any link.
struct Ready {
  static constexpr std::uint16_t opcode = 2;
  static constexpr const char* name = "ready";
  using Request = Empty;
  using Reply = Empty;
};

/// The labelled handles a process begins with: those given at spawn or attach, and those its job
/// kept. `cursor` 0 begins; `next` 0 ends. An operator's program (PeerRole) also finds `root`, the
/// root job with manage.
struct Startup {
  static constexpr std::uint16_t opcode = 3;
  static constexpr const char* name = "startup";
  struct Entry {
    Label label;
    Handle handle;
    std::uint32_t type;
    std::uint32_t use;
    std::uint32_t grant;
    std::uint32_t kept;  ///< 1: from keep, 0: given at spawn or attach
    AIOS_FIELDS(Entry, label, handle, type, use, grant, kept)
  };
  struct Request {
    std::uint64_t cursor;
    AIOS_FIELDS(Request, cursor)
  };
  struct Reply {
    std::uint64_t next;
    std::uint64_t count;
    Entry entries[6];
    AIOS_FIELDS(Reply, next, count, entries)
  };
};

/// One handle with a raised signal, or `none` (handle 0). Reporting clears the reported bits.
/// The kernel doorbell rings when any signal is raised; drain it, then call this until none.
struct SignalNext {
  static constexpr std::uint16_t opcode = 4;
  static constexpr const char* name = "signal_next";
  using Request = Empty;
  struct Reply {
    Handle handle;
    std::uint32_t signals;
    std::uint32_t type;
    AIOS_FIELDS(Reply, handle, signals, type)
  };
};

// ---- handles --------------------------------------------------------------------------------

/// Needs duplicate. The masks must lie within the handle's own.
struct HandleDuplicate {
  static constexpr std::uint16_t opcode = 10;
  static constexpr const char* name = "handle_duplicate";
  struct Request {
    Handle handle;
    std::uint32_t use;
    std::uint32_t grant;
    AIOS_FIELDS(Request, handle, use, grant)
  };
  struct Reply {
    Handle handle;
    AIOS_FIELDS(Reply, handle)
  };
};

/// Stores a copy of the handle in the caller's job under `label`, replacing what was there; a
/// process spawned later in that job finds it by `startup`. Handle 0 forgets the label. Needs
/// duplicate; links cannot be kept.
struct HandleKeep {
  static constexpr std::uint16_t opcode = 11;
  static constexpr const char* name = "handle_keep";
  struct Request {
    Handle handle;
    Label label;
    AIOS_FIELDS(Request, handle, label)
  };
  using Reply = Empty;
};

/// Closing a link's handle closes the link for both sides. Closing a process's handle does not kill
/// it.
struct HandleClose {
  static constexpr std::uint16_t opcode = 12;
  static constexpr const char* name = "handle_close";
  struct Request {
    Handle handle;
    AIOS_FIELDS(Request, handle)
  };
  using Reply = Empty;
};

/// `sender_process_id`: who installed the handle by link_send, 0 for one of the caller's own
/// making. A server compares it with its client before it uses a number that a message names.
/// `detail`: region, its bytes; process, its pid; link, the peer's process id; job, the uid of the
/// user whose work it is; port, 1 when it is down.
struct HandleInfo {
  static constexpr std::uint16_t opcode = 13;
  static constexpr const char* name = "handle_info";
  struct Request {
    Handle handle;
    AIOS_FIELDS(Request, handle)
  };
  struct Reply {
    std::uint64_t object_id;
    std::uint32_t type;
    std::uint32_t use;
    std::uint32_t grant;
    std::uint32_t region_kind;  ///< RegionKind
    std::uint64_t detail;
    std::uint64_t sender_process_id;
    Name name;
    AIOS_FIELDS(Reply, object_id, type, use, grant, region_kind, detail, sender_process_id, name)
  };
};

// ---- jobs -----------------------------------------------------------------------------------

/// Needs manage on the parent. Quotas are also charged to every ancestor.
struct JobCreate {
  static constexpr std::uint16_t opcode = 20;
  static constexpr const char* name = "job_create";
  struct Request {
    Handle parent;
    Name name;
    Quota quota;
    AIOS_FIELDS(Request, parent, name, quota)
  };
  struct Reply {
    Handle job;
    AIOS_FIELDS(Reply, job)
  };
};

/// Kills every process in the job and below and refuses new ones. Needs manage.
struct JobKill {
  static constexpr std::uint16_t opcode = 21;
  static constexpr const char* name = "job_kill";
  struct Request {
    Handle job;
    AIOS_FIELDS(Request, job)
  };
  using Reply = Empty;
};

struct JobRecord {
  std::uint64_t job_id;
  std::uint64_t parent_id;
  Name name;
  Quota quota;
  Quota used;  ///< cpu_millis is 0: a share is not used up
  std::uint32_t killed;
  std::uint32_t enforced;  ///< bits of namespace enforced
  std::uint32_t uid;       ///< of the user whose work it is
  std::uint32_t reserved;
  // What its own control group has counted; zero without one.
  std::uint64_t own_memory_bytes;  ///< of its processes, regions not included
  std::uint64_t cpu_ns;
  std::uint64_t memory_kills;   ///< processes that Linux ended because the memory was used up
  std::uint64_t refused_forks;  ///< processes and threads that were one too many
  AIOS_FIELDS(JobRecord, job_id, parent_id, name, quota, used, killed, enforced, uid, reserved,
              own_memory_bytes, cpu_ns, memory_kills, refused_forks)
};

/// Needs info.
struct JobInfo {
  static constexpr std::uint16_t opcode = 22;
  static constexpr const char* name = "job_info";
  struct Request {
    Handle job;
    AIOS_FIELDS(Request, job)
  };
  using Reply = JobRecord;
};

/// The job with the least id above `after` among `job` and those below it; job_id 0 ends. Needs
/// manage.
struct JobNext {
  static constexpr std::uint16_t opcode = 23;
  static constexpr const char* name = "job_next";
  struct Request {
    Handle job;
    std::uint64_t after;
    AIOS_FIELDS(Request, job, after)
  };
  using Reply = JobRecord;
};

// ---- processes ------------------------------------------------------------------------------

inline constexpr std::uint32_t max_spawn_handles = 16;
struct SpawnHandle {
  Label label;
  Handle handle;      ///< needs send; the sender keeps its own
  std::uint32_t use;  ///< both within the sender's grant mask
  std::uint32_t grant;
  AIOS_FIELDS(SpawnHandle, label, handle, use, grant)
};

/// Starts `image` (an absolute path) with `arguments` ("a\0b\0", at most 16) in `job`. Its standard
/// output and error go to STATE/logs/NAME.log. The environment is empty but for AIOS_NAME. Needs
/// manage on the job, and to be a program of an operator or one of AIOS. The process handle has
/// info|wait|manage|duplicate|send.
struct ProcessSpawn {
  static constexpr std::uint16_t opcode = 30;
  static constexpr const char* name = "process_spawn";
  struct Request {
    Handle job;
    std::uint32_t profile;
    std::uint32_t handle_count;
    Name name;
    Text<512> image;
    char arguments[512];
    SpawnHandle handles[max_spawn_handles];
    AIOS_FIELDS(Request, job, profile, handle_count, name, image, arguments, handles)
  };
  struct Reply {
    Handle process;
    std::uint64_t process_id;
    std::uint64_t pid;
    AIOS_FIELDS(Reply, process, process_id, pid)
  };
};

/// Sends `signal_number` (SIGKILL, SIGTERM, SIGABRT, SIGSTOP, SIGCONT or SIGINT). Needs manage.
struct ProcessSignal {
  static constexpr std::uint16_t opcode = 31;
  static constexpr const char* name = "process_signal";
  struct Request {
    Handle process;
    std::uint32_t signal_number;
    std::uint32_t reserved;
    AIOS_FIELDS(Request, process, signal_number, reserved)
  };
  using Reply = Empty;
};

struct ProcessRecord {
  std::uint64_t process_id;
  std::uint64_t job_id;
  std::uint64_t pid;
  std::uint64_t epoch;
  std::uint64_t started_ns;    ///< CLOCK_MONOTONIC
  std::uint64_t region_bytes;  ///< of regions it created that still live
  std::uint32_t handles;
  std::uint32_t links;
  std::uint32_t outside;         ///< 1: attached, not spawned
  std::uint32_t exited;          ///< 1: gone; exit_status is as waitid gave it
  std::int32_t exit_code;        ///< exit code, or the number of the signal that killed it
  std::uint32_t exit_signalled;  ///< 1: exit_code is a signal
  std::uint32_t namespaces;      ///< 1: runs in namespaces of its own
  std::uint32_t uid;
  std::uint64_t sandbox;  ///< what its status page says; nobody else vouches for it
  Name name;
  Name job_name;
  AIOS_FIELDS(ProcessRecord, process_id, job_id, pid, epoch, started_ns, region_bytes, handles,
              links, outside, exited, exit_code, exit_signalled, namespaces, uid, sandbox, name,
              job_name)
};

/// Needs info.
struct ProcessInfo {
  static constexpr std::uint16_t opcode = 32;
  static constexpr const char* name = "process_info";
  struct Request {
    Handle process;
    AIOS_FIELDS(Request, process)
  };
  using Reply = ProcessRecord;
};

/// The first process with an id above `after` in `job` or below; process_id 0 ends. Needs manage.
struct ProcessNext {
  static constexpr std::uint16_t opcode = 33;
  static constexpr const char* name = "process_next";
  struct Request {
    Handle job;
    std::uint64_t after;
    AIOS_FIELDS(Request, job, after)
  };
  using Reply = ProcessRecord;
};

/// A handle (info|wait|manage) to a process by id in `job` or below. Needs manage on the job.
struct ProcessOpen {
  static constexpr std::uint16_t opcode = 34;
  static constexpr const char* name = "process_open";
  struct Request {
    Handle job;
    std::uint64_t process_id;
    AIOS_FIELDS(Request, job, process_id)
  };
  struct Reply {
    Handle process;
    AIOS_FIELDS(Reply, process)
  };
};

/// An object that can start one image under one profile, in a child job of any job that its user
/// shows with `act`. Needs manage on `job`, which must be the root.
struct SpawnerCreate {
  static constexpr std::uint16_t opcode = 35;
  static constexpr const char* name = "spawner_create";
  struct Request {
    Handle job;
    std::uint32_t profile;
    std::uint32_t reserved;
    Name name;
    Text<512> image;
    AIOS_FIELDS(Request, job, profile, reserved, name, image)
  };
  struct Reply {
    Handle spawner;
    AIOS_FIELDS(Reply, spawner)
  };
};

/// Starts the spawner's image in the child job `contexts` of `tenant` (made if it is not there).
/// Needs spawn on the spawner and act on the tenant. `name` is the process's name. Otherwise as
/// process_spawn. quota when the tenant's job may have no more; denied when the tenant is killed.
struct SpawnerSpawn {
  static constexpr std::uint16_t opcode = 36;
  static constexpr const char* name = "spawner_spawn";
  struct Request {
    Handle spawner;
    Handle tenant;
    Name name;
    char arguments[512];
    std::uint64_t handle_count;
    SpawnHandle handles[max_spawn_handles];
    AIOS_FIELDS(Request, spawner, tenant, name, arguments, handle_count, handles)
  };
  using Reply = ProcessSpawn::Reply;
};

// ---- regions --------------------------------------------------------------------------------

/// A data region of `size_bytes` (rounded up to pages), preallocated and zero, charged to the
/// caller's job until its last handle is closed. The reply comes when every page is there. The
/// handle has info|duplicate|send|map_read|map_write in both masks. A `freezable` region may be
/// given to region_freeze; until then any holder of a writable descriptor can put seals on it
/// (fcntl F_ADD_SEALS), and so keep others from mapping it for writing, or from freezing it. Its
/// pages come from `numa_nodes`, a bit for each: of one node as long as it has memory left, of
/// several from each in turn; nodes that the machine lacks count for nothing; 0: no matter. Without
/// effect where the host does not let the kernel choose. quota; no_memory; invalid_argument: the
/// machine has none of the nodes.
struct RegionCreate {
  static constexpr std::uint16_t opcode = 40;
  static constexpr const char* name = "region_create";
  struct Request {
    std::uint64_t size_bytes;
    Name name;
    std::uint32_t freezable;  ///< 0 or 1
    std::uint32_t reserved;
    std::uint64_t numa_nodes;
    AIOS_FIELDS(Request, size_bytes, name, freezable, reserved, numa_nodes)
  };
  struct Reply {
    Handle region;
    std::uint64_t size_bytes;
    AIOS_FIELDS(Reply, region, size_bytes)
  };
};

/// Fd: the region's memory; read-only unless `writable`. Needs map_read, and map_write if writable.
/// denied when it is frozen and `writable`.
struct RegionMap {
  static constexpr std::uint16_t opcode = 41;
  static constexpr const char* name = "region_map";
  struct Request {
    Handle region;
    std::uint32_t writable;
    std::uint32_t reserved;
    AIOS_FIELDS(Request, region, writable, reserved)
  };
  struct Reply {
    std::uint64_t size_bytes;
    AIOS_FIELDS(Reply, size_bytes)
  };
};

/// The first region with an id above `after` that was created in `job` or below; id 0 ends.
/// Needs manage on the job.
struct RegionNext {
  static constexpr std::uint16_t opcode = 42;
  static constexpr const char* name = "region_next";
  struct Request {
    Handle job;
    std::uint64_t after;
    AIOS_FIELDS(Request, job, after)
  };
  struct Reply {
    std::uint64_t region_id;
    std::uint64_t size_bytes;
    std::uint64_t job_id;
    std::uint32_t handles;  ///< how many handles name it, in all processes
    std::uint32_t kind;     ///< RegionKind
    Name name;
    Name job_name;
    AIOS_FIELDS(Reply, region_id, size_bytes, job_id, handles, kind, name, job_name)
  };
};

/// Freezes a region that was created `freezable`: when this is answered ok nobody can ever change
/// its bytes, by any means, and nobody can take that back. The caller unmaps its own writable
/// mappings first, also read-only ones of a writable descriptor. Needs map_write. Freezing a frozen
/// region is ok.
///
/// busy while any process has it mapped through a writable descriptor, or while one, a reader
/// perhaps, has pages of it elsewhere in Linux: in a pipe (splice), in direct i/o, registered with
/// a device. The region is then as it was. Freeze before you share, and nobody can stand in the
/// way. not_supported when it was not created freezable; denied when a holder of a writable
/// descriptor sealed the seals first: it can then never be frozen. The reply comes after a clone,
/// or in half a second when pages are elsewhere.
struct RegionFreeze {
  static constexpr std::uint16_t opcode = 43;
  static constexpr const char* name = "region_freeze";
  struct Request {
    Handle region;
    AIOS_FIELDS(Request, region)
  };
  using Reply = Empty;
};

// ---- lent files -----------------------------------------------------------------------------

/// A channel on which the caller lends opened files to processes of its own job and below. Fd: the
/// caller's end, a SOCK_SEQPACKET socket: the caller sends one packet, at most `max_lent_files`
/// descriptors with SCM_RIGHTS and up to 4 KiB of description. The handle has
/// info|duplicate|send in use, and map_read in its grant mask.
struct FileCreate {
  static constexpr std::uint16_t opcode = 50;
  static constexpr const char* name = "file_create";
  using Request = Empty;
  struct Reply {
    Handle file;
    AIOS_FIELDS(Reply, file)
  };
};
inline constexpr std::uint32_t max_lent_files = 128;

/// Fd: the channel's other end, from which the packet is read with MSG_PEEK, so that a later reader
/// (another attempt) finds it too. Needs map_read, and that the caller's job is the creator's or
/// below it.
struct FileOpen {
  static constexpr std::uint16_t opcode = 51;
  static constexpr const char* name = "file_open";
  struct Request {
    Handle file;
    AIOS_FIELDS(Request, file)
  };
  using Reply = Empty;
};

// ---- the instance ---------------------------------------------------------------------------

/// Raises `shutdown` on the root job: the supervisor stops the servers in order, then exits, and
/// the kernel ends what is left. Needs manage on the root job.
struct InstanceShutdown {
  static constexpr std::uint16_t opcode = 70;
  static constexpr const char* name = "instance_shutdown";
  struct Request {
    Handle root;
    AIOS_FIELDS(Request, root)
  };
  using Reply = Empty;
};

struct InstanceInfo {
  static constexpr std::uint16_t opcode = 71;
  static constexpr const char* name = "instance_info";
  using Request = Empty;
  struct Reply {
    std::uint64_t pid;
    std::uint64_t started_ns;
    std::uint64_t supervisor_restarts;
    std::uint64_t processes;
    std::uint64_t regions;
    std::uint64_t region_bytes;
    std::uint64_t links;
    std::uint64_t
        shutdown_timeout_ns;        ///< a shutdown takes no longer, but for what cannot be killed
    std::uint32_t user_namespaces;  ///< 1: contexts get namespaces of their own
    std::uint32_t pidfd_of_peers;   ///< 1: attached programs are watched by pidfd too
    std::uint32_t open_to_users;    ///< 1: programs of other users may attach
    std::uint32_t uid;              ///< the instance's own
    AIOS_FIELDS(Reply, pid, started_ns, supervisor_restarts, processes, regions, region_bytes,
                links, shutdown_timeout_ns, user_namespaces, pidfd_of_peers, open_to_users, uid)
  };
};

/// What the manifest says of the instance as a whole. With `open_to_users` programs of other users
/// may attach: the socket's group becomes `group` and may write it, and each job user:UID has
/// `user_quota`. An operator's has none but 512 links. Needs manage on the root job.
struct InstanceConfigure {
  static constexpr std::uint16_t opcode = 72;
  static constexpr const char* name = "instance_configure";
  struct Request {
    Handle root;
    Quota user_quota;
    std::uint64_t shutdown_timeout_ns;  ///< after which the supervisor is killed
    std::uint32_t open_to_users;        ///< 0 or 1
    std::uint32_t group;
    AIOS_FIELDS(Request, root, user_quota, shutdown_timeout_ns, open_to_users, group)
  };
  using Reply = Empty;
};

struct Protocol {
  static constexpr const char* name = "kernel";
  static constexpr std::uint16_t version = abi_version;
  using Methods =
      MethodList<Hello, Ready, Startup, SignalNext, HandleDuplicate, HandleKeep, HandleClose,
                 HandleInfo, JobCreate, JobKill, JobInfo, JobNext, ProcessSpawn, ProcessSignal,
                 ProcessInfo, ProcessNext, ProcessOpen, SpawnerCreate, SpawnerSpawn, RegionCreate,
                 RegionMap, RegionNext, RegionFreeze, FileCreate, FileOpen, PortCreate, PortPublish,
                 PortSetDown, PortConnect, PortAccept, LinkReady, LinkSend, LinkNext,
                 InstanceShutdown, InstanceInfo, InstanceConfigure>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

/// Greatest packet in either direction.
inline constexpr std::size_t max_packet_bytes = 4096;

}  // namespace aios::proto::kernel
