// The device protocol: between the scheduler and a device's driver, and between the scheduler and
// the contexts the driver starts. The same for every kind of device.
#pragma once

#include <algorithm>

#include "abi/proto/kernel.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::driver {

enum class Health : std::uint32_t { ok = 0, degraded = 1, failed = 2 };

/// What the host does not say.
inline constexpr std::int32_t unknown_temperature = INT32_MIN;
inline constexpr std::uint32_t unknown_utilisation = UINT32_MAX;
inline constexpr std::int32_t no_numa_node = -1;

/// What a module has code for, and a device runs.
namespace backend {
inline constexpr std::uint32_t cpu = 1;
inline constexpr std::uint32_t cuda = 2;
inline constexpr std::uint32_t opencl = 4;
inline constexpr std::uint32_t pjrt = 8;
inline constexpr std::uint32_t all = 15;
/// 0 for a name that is none.
constexpr std::uint32_t from(std::string_view name) {
  return name == "cpu"      ? cpu
         : name == "cuda"   ? cuda
         : name == "opencl" ? opencl
         : name == "pjrt"   ? pjrt
                            : 0;
}
}  // namespace backend

/// Device `index` of this driver; `count` says how many there are, perhaps none. busy while the
/// driver is still looking for them.
struct Device {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "device";
  struct Request {
    std::uint64_t index;
    AIOS_FIELDS(Request, index)
  };
  struct Reply {
    std::uint32_t count;
    std::uint32_t health;
    std::uint32_t cores;    ///< physical
    std::uint32_t threads;  ///< tasks of one context that run at once
    std::uint32_t numa_nodes;
    std::uint32_t contexts;  ///< alive
    std::uint32_t context_restarts;
    std::uint32_t emulated;       ///< 1: a double of a device, for tests
    std::uint32_t faults;         ///< contexts that ended by a fault or a limit of a task's
    std::uint32_t peers;          ///< bit i: reads and writes device i of this driver directly
    std::int32_t numa_node;       ///< that it hangs at; no_numa_node: all of them, or unknown
    std::int32_t millicelsius;    ///< or unknown_temperature
    std::uint32_t busy_permille;  ///< of late; or unknown_utilisation
    std::uint32_t queue_depth;    ///< tasks that may lie in its own queue beside those that run
    std::uint32_t own_memory;     ///< 1: data is copied there and back; 0: it is the host's
    std::uint32_t reserved;
    std::uint64_t memory_bytes;
    std::uint64_t cache_bytes;  ///< last level
    Text<16> kind;              ///< "cpu", "gpu" or "xla"
    Text<16> backend;           ///< "cpu", "cuda", "opencl" or "pjrt"
    Text<64> uuid;
    Text<96> model;        ///< as the machine names it
    Text<16> pci_address;  ///< "0000:01:00.0"; empty: none
    Text<96> reason;       ///< why it is not ok
    AIOS_FIELDS(Reply, count, health, cores, threads, numa_nodes, contexts, context_restarts,
                emulated, faults, peers, numa_node, millicelsius, busy_permille, queue_depth,
                own_memory, reserved, memory_bytes, cache_bytes, kind, backend, uuid, model,
                pci_address, reason)
  };
};

/// The context of `tenant` (a job handle with act, sent over this link) on device `device`: the one
/// that is there, or a new one. `port` is a handle (connect) to it. After a context died, asking
/// again starts its successor; `previous_*` tell how the last one ended.
/// not_found: no such device. quota: the tenant may have no more processes. denied: it is killed.
/// busy: whether the device is still there is being found out. service_down: it is gone.
struct OpenContext {
  static constexpr std::uint16_t opcode = 2;
  static constexpr const char* name = "open_context";
  struct Request {
    kernel::Handle tenant;  ///< stays the scheduler's to close on the driver's side: it is moved
    std::uint64_t device;
    AIOS_FIELDS(Request, tenant, device)
  };
  struct Reply {
    kernel::Handle port;
    std::uint64_t process_id;
    std::uint32_t generation;    ///< 1 for the tenant's first context on the device
    std::uint32_t previous_end;  ///< ContextEnd
    std::uint32_t threads;
    std::uint32_t reserved;
    Text<128> previous_cause;  ///< "segmentation fault (signal 11)"
    AIOS_FIELDS(Reply, port, process_id, generation, previous_end, threads, reserved,
                previous_cause)
  };
};

/// How a context ended. Only `fault` and `limit` speak against the task it ran.
enum class ContextEnd : std::uint32_t {
  none = 0,    ///< there was none before
  exited = 1,  ///< by itself, in order
  fault = 2,   ///< a signal or abort of its own making
  limit = 3,   ///< a task exceeded its time limit
  killed = 4,  ///< SIGKILL from outside
};

/// The tenant is done: its context is ended. Answered when the process is gone and writes nowhere.
struct CloseContext {
  static constexpr std::uint16_t opcode = 3;
  static constexpr const char* name = "close_context";
  struct Request {
    std::uint64_t tenant_job_id;
    std::uint64_t device;
    AIOS_FIELDS(Request, tenant_job_id, device)
  };
  using Reply = Empty;
};

/// What the driver looked for and did not find: number `index` of `count`, perhaps none. busy as
/// for Device.
struct Absent {
  static constexpr std::uint16_t opcode = 4;
  static constexpr const char* name = "absent";
  struct Request {
    std::uint64_t index;
    AIOS_FIELDS(Request, index)
  };
  struct Reply {
    std::uint64_t count;
    Text<16> backend;  ///< "cuda", "opencl" or "pjrt"
    Text<240> why;     ///< for people: what was looked for, and what was wrong
    Text<160> advice;  ///< what to do to have it
    AIOS_FIELDS(Reply, count, backend, why, advice)
  };
};

struct Protocol {
  static constexpr const char* name = "driver";
  static constexpr std::uint16_t version = 5;
  using Methods = MethodList<Null, Device, OpenContext, CloseContext, Absent>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

}  // namespace aios::proto::driver

namespace aios::proto::context {

inline constexpr std::uint32_t max_task_buffers = 16;
inline constexpr std::uint32_t max_argument_bytes = 64;
inline constexpr std::uint32_t result_words = 4;
inline constexpr std::uint32_t max_bound_buffers = 4096;
inline constexpr std::uint64_t max_module_bytes = 64ull << 20;
inline constexpr std::uint32_t max_modules = 64;

/// Loads the module that lies in `region` (a handle with map_read, moved over this link) at
/// (offset, length) and finds `codelet` in it. A module already loaded, byte for byte, is not
/// loaded twice. Answers within 10 s or the context ends with `limit`. invalid_argument: not an ELF
/// module for this machine, no entry point, wrong ABI; the text names what. denied: it needs a
/// library that is not allowed; the text names it. not_found: no such codelet; the text lists those
/// there are. quota: too many modules.
struct Load {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "load";
  struct Request {
    kernel::Handle region;
    std::uint64_t offset;
    std::uint64_t length;
    Text<64> codelet;
    AIOS_FIELDS(Request, region, offset, length, codelet)
  };
  struct Reply {
    std::uint32_t codelet;
    std::uint32_t reserved;
    AIOS_FIELDS(Reply, codelet, reserved)
  };
};

/// Makes the memory at (offset, length) of `object`, a region, known as buffer `id`; or the lent
/// files of `object`, a file channel (offset and length are then 0). The handle is moved over this
/// link, with map_read and, if `writable`, map_write. A second bind of `id` replaces the first.
/// `serial` is that of no other buffer of this client: by it a context that comes after one that
/// died knows which numbers of contents (BufferUse) go on. 0: none do.
struct Bind {
  static constexpr std::uint16_t opcode = 2;
  static constexpr const char* name = "bind";
  struct Request {
    kernel::Handle object;
    std::uint64_t offset;
    std::uint64_t length;
    std::uint32_t id;  ///< below max_bound_buffers
    std::uint32_t writable;
    std::uint64_t serial;
    AIOS_FIELDS(Request, object, offset, length, id, writable, serial)
  };
  using Reply = Empty;
};

/// Forgets a buffer; its handle is closed. Answered when a device's own memory is free of what it
/// had of it. busy while a task uses it.
struct Unbind {
  static constexpr std::uint16_t opcode = 3;
  static constexpr const char* name = "unbind";
  struct Request {
    std::uint64_t id;
    AIOS_FIELDS(Request, id)
  };
  using Reply = Empty;
};

/// `content` is a number for what the buffer's bytes are before the task: whoever changes them, the
/// client or a task anywhere, raises it, and a task that writes by one. So a device that holds the
/// bytes under the same number need not fetch them again. 0: not known.
struct BufferUse {
  std::uint16_t id;
  std::uint16_t mode;  ///< as in codelet.h
  std::uint32_t content;
  AIOS_FIELDS(BufferUse, id, mode, content)
};

/// Runs a codelet over a grid; answered when every block is done and what it wrote lies in the
/// buffers' memory. Runs of one link start in order, as threads come free, or as the device's own
/// queue takes them: then several are on their way to it at once, done one after the other. When
/// one of these faults and it is not certain which, none is answered and the context ends. A block
/// that returns non-zero fails the run with that status and its message. `limit_ns` 0 means none; a
/// run that exceeds it is answered timed_out and the context ends, with everything else that was
/// running in it.
struct Run {
  static constexpr std::uint16_t opcode = 4;
  static constexpr const char* name = "run";
  struct Request {
    std::uint32_t codelet;
    std::uint32_t buffer_count;
    std::uint32_t grid[3];  ///< each at least 1, their product at most 2^24
    std::uint32_t argument_bytes;
    std::uint64_t limit_ns;
    BufferUse buffers[max_task_buffers];
    std::uint8_t arguments[max_argument_bytes];
    AIOS_FIELDS(Request, codelet, buffer_count, grid, argument_bytes, limit_ns, buffers, arguments)
  };
  struct Reply {
    std::uint64_t start_ns;  ///< CLOCK_MONOTONIC, of the first block
    std::uint64_t end_ns;
    std::uint64_t peak_memory_bytes;  ///< of the context since it started
    /// What copying its buffers to the device's own memory and back took; 0 where nothing was.
    std::uint64_t transfer_ns;
    std::uint64_t ahead_ns;  ///< of it, while what was handed to the device before still ran
    /// Where threads share out the blocks: how long these were at it, all together. 0 elsewhere.
    std::uint64_t busy_ns;
    std::uint64_t result[result_words];
    AIOS_FIELDS(Reply, start_ns, end_ns, peak_memory_bytes, transfer_ns, ahead_ns, busy_ns, result)
  };
};

/// Runs several short tasks without time limits, one after the other, on one thread. The first that
/// fails is the last that is begun: `why` (BatchFailure) tells what it said. The answer comes when
/// all have ended, so tasks that may take long have no place here.
///
/// A device with a queue of its own is handed all of them at once. When one fails there those
/// behind it may have run; they have ended all the same when the answer comes, which counts them as
/// not begun: a task has a place in a batch only if it may be done again. The same holds there for
/// a batch that comes after one that fails.
///
/// It begins when the batches in `after`, sent earlier on the same link, have ended; one that is
/// not on its way any more has. When one of those ended early, or was not begun, this one counts
/// as not begun either: it is answered with count 0 and status `cancelled`.
/// invalid_argument: the packed tasks make no sense, or the numbers do; then none has begun.
///
/// The request ends with what is packed, the reply with the last result that is not zero, or with
/// the last of `ended` where all are (Trimmed, wire.hpp).
struct RunBatch {
  static constexpr std::uint16_t opcode = 5;
  static constexpr const char* name = "run_batch";
  static constexpr std::uint32_t max_tasks = 10;
  static constexpr std::uint32_t max_after = 8;
  /// How far back they may lie: of so many batches it is remembered how they ended.
  static constexpr std::uint64_t max_distance = 4096;
  /// Each task in turn: a PackedRun, its BufferUses, its arguments, and zeros up to the next
  /// multiple of 4.
  struct PackedRun {
    std::uint32_t codelet;
    std::uint32_t grid[3];
    std::uint16_t buffer_count;
    std::uint16_t argument_bytes;
    AIOS_FIELDS(PackedRun, codelet, grid, buffer_count, argument_bytes)
  };
  struct Request {
    std::uint64_t number;  ///< the client's choice, greater with each batch of a link
    std::uint16_t count;
    std::uint16_t packed_bytes;
    std::uint32_t after_count;
    std::uint16_t after[max_after];  ///< by how much less their numbers are
    std::uint8_t packed[408];
    AIOS_FIELDS(Request, number, count, packed_bytes, after_count, after, packed)
  };
  struct Ended {
    std::uint32_t start_ns;  ///< after `base_ns`; at most 2^32 - 1, as `end_ns`
    std::uint32_t end_ns;
    AIOS_FIELDS(Ended, start_ns, end_ns)
  };
  struct TaskResult {
    std::uint64_t words[result_words];
    AIOS_FIELDS(TaskResult, words)
  };
  struct Reply {
    std::uint64_t base_ns;            ///< CLOCK_MONOTONIC
    std::uint64_t peak_memory_bytes;  ///< of the context since it started
    std::uint64_t transfer_ns;        ///< as of Run, of all that have run together
    std::uint32_t ahead_us;           ///< the same, but in microseconds; at most 2^32 - 1
    std::uint8_t count;               ///< how many have run; 0: it was not begun
    std::uint8_t result_count;        ///< the results behind these are zero
    std::uint16_t status;             ///< of the last of these
    Ended ended[max_tasks];
    TaskResult results[max_tasks];
    AIOS_FIELDS(Reply, base_ns, peak_memory_bytes, transfer_ns, ahead_us, count, result_count,
                status, ended, results)
  };
  static constexpr std::size_t used_bytes(const Request& request) {
    return offsetof(Request, packed) +
           std::min<std::size_t>(request.packed_bytes, sizeof request.packed);
  }
  static constexpr std::size_t used_bytes(const Reply& reply) {
    return reply.result_count > 0 ? bytes_with_results(reply.result_count)
                                  : offsetof(Reply, ended) + at_most(reply.count) * sizeof(Ended);
  }
  static constexpr std::size_t most_reply_bytes(const Request& request) {
    return bytes_with_results(request.count);
  }

 private:
  static constexpr std::size_t at_most(std::uint32_t tasks) { return std::min(tasks, max_tasks); }
  static constexpr std::size_t bytes_with_results(std::uint32_t tasks) {
    return offsetof(Reply, results) + at_most(tasks) * sizeof(TaskResult);
  }
};

/// Why a batch ended early. Told once, of the last 64 such batches; not_found.
struct BatchFailure {
  static constexpr std::uint16_t opcode = 6;
  static constexpr const char* name = "batch_failure";
  struct Request {
    std::uint64_t number;
    AIOS_FIELDS(Request, number)
  };
  struct Reply {
    Text<400> why;
    AIOS_FIELDS(Reply, why)
  };
};

/// The context is about to be suspended, or goes on: what lies between counts for no time limit.
/// The tasks that run go on until it is suspended.
struct Pause {
  static constexpr std::uint16_t opcode = 7;
  static constexpr const char* name = "pause";
  struct Request {
    std::uint64_t paused;  ///< 0 or 1
    AIOS_FIELDS(Request, paused)
  };
  using Reply = Empty;
};

/// What copies between the host's memory and the device's own have taken, since the context
/// started. All 0 where there are none, as on devices that work in the host's memory.
struct Copies {
  static constexpr std::uint16_t opcode = 8;
  static constexpr const char* name = "copies";
  using Request = Empty;
  struct Sum {
    std::uint64_t count;
    std::uint64_t bytes;
    std::uint64_t ns;
    AIOS_FIELDS(Sum, count, bytes, ns)
  };
  /// Copies of fewer bytes are told apart: they show what a copy takes whatever its size.
  static constexpr std::uint64_t large_bytes = 64u << 10;
  struct Reply {
    Sum to_device[2];  ///< small, large
    Sum to_host[2];
    AIOS_FIELDS(Reply, to_device, to_host)
  };
};

struct Protocol {
  static constexpr const char* name = "context";
  static constexpr std::uint16_t version = 11;
  using Methods = MethodList<Null, Load, Bind, Unbind, Run, RunBatch, BatchFailure, Pause, Copies>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

/// Description sent beside the descriptors of a lent split (kernel FileCreate): a FileSplitHeader,
/// then `count` FilePieces; piece i belongs to descriptor i.
struct FileSplitHeader {
  std::uint32_t count;  ///< 1 to kernel::max_lent_files
  std::uint32_t reserved;
  AIOS_FIELDS(FileSplitHeader, count, reserved)
};
struct FilePiece {
  std::uint64_t offset;
  std::uint64_t length;
  std::uint64_t file_size;
  AIOS_FIELDS(FilePiece, offset, length, file_size)
};
static_assert(sizeof(FileSplitHeader) + kernel::max_lent_files * sizeof(FilePiece) <= 4096);

}  // namespace aios::proto::context

/// Between a context and the process that owns device memory for its tenant. That process never
/// uses the device itself, so it lives on, and the memory with it, when kernels fault.
namespace aios::proto::memory {

/// The caller is from now on the one context that uses the memory; what was lent to one before is
/// in use no more. `channel`, a file channel of the caller's (map_read, moved over this link), is
/// where it asks: at its other end each AllocationRequest, one at a time, gets an AllocationReply,
/// with descriptors. A context that closes it has ended.
struct Attach {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "attach";
  struct Request {
    kernel::Handle channel;
    AIOS_FIELDS(Request, channel)
  };
  struct Reply {
    std::uint64_t allocations;  ///< that contexts before have left
    std::uint64_t bytes;
    AIOS_FIELDS(Reply, allocations, bytes)
  };
};

struct Protocol {
  static constexpr const char* name = "memory";
  static constexpr std::uint16_t version = 2;
  using Methods = MethodList<Null, Attach>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

inline constexpr std::uint32_t max_allocations = 256;
/// What is smaller than a slab is a piece of one: an allocation with the key {0, 0, N, slab_bytes},
/// N below max_slabs, which the context divides itself.
inline constexpr std::uint32_t slab_bytes = 2u << 20;
inline constexpr std::uint32_t max_slabs = 64;
inline constexpr std::uint32_t max_pieces = 2048;

/// Which host memory an allocation is a copy of. `binder` is the process that numbers its contents
/// and `serial` its name for it; of memory that never changes 0, and the region.
struct AllocationKey {
  std::uint64_t binder;
  std::uint64_t serial;
  std::uint64_t offset;
  std::uint64_t length;
  bool operator==(const AllocationKey&) const = default;
  AIOS_FIELDS(AllocationKey, binder, serial, offset, length)
};

/// A part of a slab, as contexts note it for those after them.
struct Piece {
  AllocationKey key;
  std::uint32_t slab;
  std::uint32_t offset;   ///< in it; the key has the length
  std::uint32_t content;  ///< as of an allocation
  std::uint32_t used;     ///< 1: by that key; 0: this record says nothing
  AIOS_FIELDS(Piece, key, slab, offset, content, used)
};

/// What owner and context share, which the context writes.
struct Ledger {
  /// By slot, what the allocation there holds (BufferUse::content; 0: nothing of use).
  std::uint32_t contents[max_allocations];
  Piece pieces[max_pieces];
};

enum class AllocationCall : std::uint32_t {
  /// With the descriptor of a Ledger.
  ledger = 1,
  /// The allocation of this key, `found`, or a new one; with its descriptor. Pieces of a slab that
  /// is new are none. no_memory: more than
  /// the tenant may have, or the device has. quota: of max_allocations all are in use.
  take = 2,
  /// Frees the one at `slot`. not_found: there is none in use.
  drop = 3,
  /// Frees all that this context has not taken.
  drop_unused = 4,
};

struct AllocationRequest {
  std::uint32_t call;
  std::uint32_t slot;
  AllocationKey key;
  AIOS_FIELDS(AllocationRequest, call, slot, key)
};

struct AllocationReply {
  std::uint32_t status;
  std::uint32_t slot;
  std::uint64_t bytes;  ///< of the allocation: the key's length, rounded up
  std::uint32_t found;  ///< 1: it was there
  std::uint32_t reserved;
  Text<192> why;
  AIOS_FIELDS(AllocationReply, status, slot, bytes, found, reserved, why)
};

}  // namespace aios::proto::memory
