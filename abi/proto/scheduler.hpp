// The scheduler's protocol: task types, buffers and tasks in, completions out.
//
// A tenant is a job on whose behalf tasks run. Everything a client registers belongs to one tenant
// of its link and is gone when the link closes: pending tasks are cancelled, running ones finish
// unseen or are ended with their context.
#pragma once

#include "abi/proto/device.hpp"
#include "abi/proto/kernel.hpp"
#include "abi/proto/scheduler_listings.hpp"
#include "abi/proto/scheduler_trees.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::scheduler {

inline constexpr std::uint32_t max_batch = 1024;
inline constexpr std::uint32_t max_gang = 256;
inline constexpr std::uint32_t max_pending_per_tenant = 65536;

/// Work for the job named by `job`, mostly the client's own: a handle sent over this link, with use
/// act|send and grant act, for it is shown to drivers. At most 64 tenants a link.
/// A tenant that the same process opened under the same `session`, unless that is 0, is closed, and
/// the answer waits until none of its tasks runs any more: for who comes again because the link
/// broke, and would not have two of one task run at once.
/// invalid_argument: not a job, or 0. denied: a right is missing. quota.
struct OpenTenant {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "open_tenant";
  static constexpr bool parks = true;
  struct Request {
    kernel::Handle job;
    std::uint64_t session;  ///< the client's number for what it opens, also again
    AIOS_FIELDS(Request, job, session)
  };
  struct Reply {
    std::uint32_t tenant;
    std::uint32_t reserved;
    AIOS_FIELDS(Reply, tenant, reserved)
  };
};

/// Cancels what is pending, forgets everything registered and ends the tenant's contexts when no
/// other link uses them. Answered when no task of it runs any more.
struct CloseTenant {
  static constexpr std::uint16_t opcode = 2;
  static constexpr const char* name = "close_tenant";
  static constexpr bool parks = true;
  struct Request {
    std::uint32_t tenant;
    std::uint32_t reserved;
    AIOS_FIELDS(Request, tenant, reserved)
  };
  using Reply = Empty;
};

/// A task type: the codelet `function` of the module at (offset, length) of `region` (a handle with
/// use send and grant map_read, moved over this link). It is loaded when the first task needs it; a
/// module that cannot be loaded fails that task with the reason. The bits of `backends` are the
/// client's word, by which its tasks are placed. At most 256 a tenant.
struct RegisterCodelet {
  static constexpr std::uint16_t opcode = 3;
  static constexpr const char* name = "register_codelet";
  struct Request {
    kernel::Handle region;
    std::uint64_t offset;
    std::uint64_t length;
    std::uint32_t tenant;
    std::uint32_t backends;  ///< driver::backend bits: what the module has code for
    /// What is learned is kept by it: of equal modules for their next registration. 0: by nothing.
    std::uint64_t module_hash;
    Text<64> function;
    Text<64> label;  ///< what listings call it
    AIOS_FIELDS(Request, region, offset, length, tenant, backends, module_hash, function, label)
  };
  struct Reply {
    std::uint32_t codelet;
    std::uint32_t reserved;
    AIOS_FIELDS(Reply, codelet, reserved)
  };
};

/// A buffer: memory at (offset, length) of a region, or a file channel (offset, length 0). The
/// handle needs use send and grant map_read (and map_write if `writable`): the scheduler only
/// passes it to contexts. Moved. At most 1,536 a user.
struct RegisterBuffer {
  static constexpr std::uint16_t opcode = 4;
  static constexpr const char* name = "register_buffer";
  struct Request {
    kernel::Handle object;
    std::uint64_t offset;
    std::uint64_t length;
    std::uint32_t tenant;
    std::uint32_t writable;
    AIOS_FIELDS(Request, object, offset, length, tenant, writable)
  };
  struct Reply {
    std::uint32_t buffer;
    std::uint32_t reserved;
    AIOS_FIELDS(Reply, buffer, reserved)
  };
};

/// busy while a pending or running task names it.
struct ReleaseBuffer {
  static constexpr std::uint16_t opcode = 5;
  static constexpr const char* name = "release_buffer";
  struct Request {
    std::uint32_t tenant;
    std::uint32_t buffer;
    AIOS_FIELDS(Request, tenant, buffer)
  };
  using Reply = Empty;
};

/// The region (a handle with map_read and map_write, moved) from which this link's Submits are
/// read, and into which its Completions are written. What its client changes in it meanwhile harms
/// only that client.
struct SetArena {
  static constexpr std::uint16_t opcode = 6;
  static constexpr const char* name = "set_arena";
  struct Request {
    kernel::Handle region;
    AIOS_FIELDS(Request, region)
  };
  using Reply = Empty;
};

namespace task_flag {
inline constexpr std::uint32_t idempotent = 1;  ///< may run again after its context died
/// Nothing runs: it is done when those are on which it depends. For tasks that depend on many.
inline constexpr std::uint32_t join = 2;
/// In a graph with a deadline that is not accepted otherwise it may run in the cheaper variant of
/// its codelet (SetCheaper).
inline constexpr std::uint32_t may_be_cheaper = 4;
/// It is of a gang: see Submit.
inline constexpr std::uint32_t gang = 8;
}  // namespace task_flag

struct TaskRecord {
  std::uint64_t tag;  ///< the client's name for it, unique among its tenant's unfinished tasks
  std::uint32_t codelet;
  std::uint32_t flags;
  std::int32_t priority;  ///< higher first; equal ones in order of submission
  std::uint32_t buffer_count;
  std::uint32_t dependency_count;
  std::uint32_t argument_bytes;
  std::uint32_t grid[3];
  std::uint32_t device;    ///< 0: any; else 1 + its index in the list of devices
  std::uint64_t limit_ns;  ///< run time; 0: none
  std::uint32_t buffers[context::max_task_buffers];  ///< id | mode << 28
  std::uint32_t dependencies[max_dependencies];      ///< low 32 bits of tags of earlier tasks
  std::uint8_t arguments[context::max_argument_bytes];
  std::uint64_t deadline_ns;  ///< by the monotonic clock; 0: none
  std::uint32_t gang;         ///< with flag gang: the client's number for it
  std::uint32_t gang_size;    ///< and its members, 2 to max_gang
  std::uint64_t reserved_word;
  AIOS_FIELDS(TaskRecord, tag, codelet, flags, priority, buffer_count, dependency_count,
              argument_bytes, grid, device, limit_ns, buffers, dependencies, arguments, deadline_ns,
              gang, gang_size, reserved_word)
};
static_assert(sizeof(TaskRecord) == 256);

/// Takes `count` records at `offset` of the arena, each copied once, all or none. A dependency on a
/// finished task (the last 65,536 are remembered) is satisfied; on an unknown tag or a later record
/// it is invalid_argument (so no cycle can be expressed), and so is a deadline that has passed; on
/// a failed task it fails this one with `cancelled`. not_supported: no device of the instance runs
/// what its module has code for; what came before all drivers had said which devices there are (a
/// minute is enough) then ends with that. Unused fields are zero. already_exists: a tag is in use.
/// quota: too many pending, counting completions that were not fetched. cancelled: it continues one
/// that was refused. Tasks of a graph (OpenGraph) do not start before it is accepted.
///
/// The tasks of a tenant with one `gang` number start together, each in a slot of its own, once all
/// `gang_size` have come and none waits for others any more. When one ends without success those
/// that do not run end as `cancelled`; when a context ends under some, those that are to run again
/// start together again. Its number is free again when all have ended. not_supported: the devices
/// that they may run on have fewer slots in all; no_memory: their memories do not hold its data at
/// the same time. already_exists: all its members have come. A gang of which one waits for another,
/// also through other gangs, ends as invalid_argument (where 16,384 steps are enough to see it).
struct Submit {
  static constexpr std::uint16_t opcode = 7;
  static constexpr const char* name = "submit";
  struct Request {
    std::uint64_t offset;
    std::uint32_t count;
    std::uint32_t tenant;
    std::uint32_t continues;  ///< 1: to be refused if the tenant's last Submit was; else 0
    std::uint32_t graph;      ///< of which the tasks are; 0: of none
    AIOS_FIELDS(Request, offset, count, tenant, continues, graph)
  };
  using Reply = Empty;
};

struct Completion {
  std::uint64_t tag;
  std::uint32_t status;  ///< aios::Code
  std::uint32_t attempts;
  std::uint64_t start_ns;
  std::uint64_t end_ns;
  std::uint64_t peak_memory_bytes;
  std::uint64_t result[context::result_words];
  AIOS_FIELDS(Completion, tag, status, attempts, start_ns, end_ns, peak_memory_bytes, result)
};

/// Writes up to `room` (1 to max_batch) finished tasks of the tenant to `offset` of the arena.
/// Answered as soon as there are `least` of them, or fewer but no task is unfinished and there is
/// at least one; or when another one of the tenant comes, and then perhaps with none.
struct Completions {
  static constexpr std::uint16_t opcode = 8;
  static constexpr const char* name = "completions";
  static constexpr bool parks = true;
  struct Request {
    std::uint64_t offset;
    std::uint32_t room;
    std::uint32_t least;
    std::uint32_t tenant;
    std::uint32_t reserved;
    AIOS_FIELDS(Request, offset, room, least, tenant, reserved)
  };
  struct Reply {
    std::uint64_t count;
    AIOS_FIELDS(Reply, count)
  };
};

/// Why a completed task failed; kept for the last 256 failures of the tenant.
struct Failure {
  static constexpr std::uint16_t opcode = 9;
  static constexpr const char* name = "failure";
  struct Request {
    std::uint64_t tag;
    std::uint32_t tenant;
    std::uint32_t reserved;
    AIOS_FIELDS(Request, tag, tenant, reserved)
  };
  struct Reply {
    Text<400> text;
    AIOS_FIELDS(Reply, text)
  };
};

/// A pending task is cancelled; a running one is not touched (busy). Its completion says cancelled.
struct Cancel {
  static constexpr std::uint16_t opcode = 10;
  static constexpr const char* name = "cancel";
  struct Request {
    std::uint64_t tag;
    std::uint32_t tenant;
    std::uint32_t reserved;
    AIOS_FIELDS(Request, tag, tenant, reserved)
  };
  using Reply = Empty;
};

/// Cancels every pending task of the tenant whose tag is from `first` to `last`, which may be all;
/// running ones are not touched.
struct CancelRange {
  static constexpr std::uint16_t opcode = 15;
  static constexpr const char* name = "cancel_range";
  struct Request {
    std::uint64_t first;
    std::uint64_t last;
    std::uint32_t tenant;
    std::uint32_t reserved;
    AIOS_FIELDS(Request, first, last, tenant, reserved)
  };
  struct Reply {
    std::uint32_t cancelled;
    std::uint32_t running;
    AIOS_FIELDS(Reply, cancelled, running)
  };
};

/// The context that is process `process_id` is about to be suspended, or goes on: meanwhile it gets
/// no tasks, those it has hold no slots, and no time limit counts. Answered when the context knows.
/// Only for operators and the user whose context it is: denied. not_found: no such context.
struct Suspend {
  static constexpr std::uint16_t opcode = 17;
  static constexpr const char* name = "suspend";
  struct Request {
    std::uint64_t process_id;
    std::uint64_t suspended;  ///< 0 or 1
    AIOS_FIELDS(Request, process_id, suspended)
  };
  using Reply = Empty;
};

/// Begins a graph that is to be done by `deadline_ns` of the monotonic clock: its tasks come by
/// Submits that name it, and wait for AdmitGraph. Theirs is the graph's deadline, or their own
/// where that is earlier. invalid_argument: the deadline has passed. quota: 64 graphs of the tenant
/// wait.
struct OpenGraph {
  static constexpr std::uint16_t opcode = 18;
  static constexpr const char* name = "open_graph";
  struct Request {
    std::uint64_t deadline_ns;
    std::uint32_t tenant;
    std::uint32_t reserved;
    AIOS_FIELDS(Request, deadline_ns, tenant, reserved)
  };
  struct Reply {
    std::uint32_t graph;
    std::uint32_t reserved;
    AIOS_FIELDS(Reply, graph, reserved)
  };
};

/// How many tasks a graph with a deadline may have.
inline constexpr std::uint32_t max_graph_tasks = max_pending_per_tenant / 2;

enum class Verdict : std::uint32_t {
  accepted = 0,
  too_late = 1,      ///< the p95 of its finish is after its deadline
  harms_others = 2,  ///< it would make graphs late that were accepted before
  withdrawn = 3,
};

/// What stands behind an acceptance.
enum class Promise : std::uint32_t {
  made = 0,
  unknown_costs = 1,  ///< nothing is known of some of its tasks: nothing is promised
  no_policy = 2,      ///< the policy in use does not predict, or does not heed deadlines
};

/// All tasks of the graph have been submitted: it starts, or it is refused and they are gone, as if
/// they had never been submitted. 1 as `withdraw`: they are gone in any case. not_found: no such
/// graph. invalid_argument: it has no task. quota: 256 accepted graphs of the user are not done.
struct AdmitGraph {
  static constexpr std::uint16_t opcode = 19;
  static constexpr const char* name = "admit_graph";
  struct Request {
    std::uint32_t tenant;
    std::uint32_t graph;
    std::uint64_t withdraw;
    AIOS_FIELDS(Request, tenant, graph, withdraw)
  };
  struct Reply {
    std::uint64_t now_ns;
    std::uint64_t deadline_ns;
    std::uint64_t finish_ns;      ///< predicted; 0 without a policy that predicts
    std::uint64_t finish_p95_ns;  ///< later only once in twenty
    /// Refused: when it would be done, with 95%, if its tasks might run on any device that has a
    /// variant of them, where that would be in time; else 0.
    std::uint64_t anywhere_p95_ns;
    /// Refused: the same if all its tasks might run in the cheaper variants of their codelets, of
    /// which all is known.
    std::uint64_t cheaper_p95_ns;
    std::uint32_t tasks;
    std::uint32_t unknown;  ///< of them nothing is known
    std::uint32_t verdict;
    std::uint32_t promise;
    /// Accepted: run in a cheaper variant, since it is in time only so. Refused: would have to.
    std::uint32_t cheaper_tasks;
    std::uint32_t reserved;
    AIOS_FIELDS(Reply, now_ns, deadline_ns, finish_ns, finish_p95_ns, anywhere_p95_ns,
                cheaper_p95_ns, tasks, unknown, verdict, promise, cheaper_tasks, reserved)
  };
};

enum class GraphState : std::uint32_t { running = 0, done = 1, failed = 2, refused = 3 };

/// Of the last 256 graphs with a deadline that were decided about, the first with a number above
/// `after`. Only an operator's client sees other users'.
struct GraphNext {
  static constexpr std::uint16_t opcode = 20;
  static constexpr const char* name = "graph_next";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t after;
    AIOS_FIELDS(Request, after)
  };
  struct Reply {
    std::uint64_t number;  ///< 0: no more
    std::uint64_t job_id;
    AdmitGraph::Reply asked;  ///< what was answered
    std::uint64_t ended_ns;   ///< 0: not yet, or never begun
    std::uint32_t state;
    std::uint32_t failed;  ///< tasks
    kernel::Name job_name;
    AIOS_FIELDS(Reply, number, job_id, asked, ended_ns, state, failed, job_name)
  };
};

/// The codelet `cheaper` does what `codelet` does, with the same buffers and arguments, sooner and
/// not as well: the client's word. Tasks that permit it run so in graphs that would be too late
/// otherwise. A codelet has one such variant, the last that was named. invalid_argument: they are
/// not two codelets of the tenant, or `cheaper` has no code for a device that `codelet` runs on.
struct SetCheaper {
  static constexpr std::uint16_t opcode = 21;
  static constexpr const char* name = "set_cheaper";
  struct Request {
    std::uint32_t tenant;
    std::uint32_t codelet;
    std::uint32_t cheaper;
    std::uint32_t reserved;
    AIOS_FIELDS(Request, tenant, codelet, cheaper, reserved)
  };
  using Reply = Empty;
};

struct Protocol {
  static constexpr const char* name = "scheduler";
  static constexpr std::uint16_t version = 16;
  using Methods = MethodList<Null, Drain, OpenTenant, CloseTenant, RegisterCodelet, RegisterBuffer,
                             ReleaseBuffer, SetArena, Submit, Completions, Failure, Cancel,
                             TaskNext, TaskFailure, DeviceNext, LoadNext, PlacementNext, ModelNext,
                             CancelRange, AbsentNext, Suspend, OpenGraph, AdmitGraph, GraphNext,
                             SetCheaper, TreesNext, Training>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

}  // namespace aios::proto::scheduler
