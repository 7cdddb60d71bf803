// The scheduler's protocol: task types, buffers and tasks in, completions out.
//
// A tenant is a job on whose behalf tasks run. Everything a client registers belongs to one tenant
// of its link and is gone when the link closes: pending tasks are cancelled, running ones finish
// unseen or are ended with their context.
#pragma once

#include "abi/proto/device.hpp"
#include "abi/proto/kernel.hpp"
#include "abi/proto/scheduler_trees.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::scheduler {

inline constexpr std::uint32_t max_dependencies = 12;
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

enum class TaskState : std::uint32_t { waiting = 0, ready = 1, running = 2, done = 3, failed = 4 };

/// The first task with a number above `after`: unfinished ones and the last 1,024 finished. For
/// listings; only an operator's client sees other users' tasks.
struct TaskNext {
  static constexpr std::uint16_t opcode = 11;
  static constexpr const char* name = "task_next";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t after;
    AIOS_FIELDS(Request, after)
  };
  struct Reply {
    std::uint64_t number;  ///< 0: no more
    std::uint64_t tag;
    std::uint64_t job_id;
    std::uint64_t submitted_ns;
    std::uint64_t start_ns;
    std::uint64_t end_ns;
    /// Copying its data to the device's own memory and back: measured, once it is done; and
    /// predicted when it started there. 0 where nothing is copied.
    std::uint64_t transfer_ns;
    std::uint64_t predicted_transfer_ns;
    std::uint32_t state;
    std::uint32_t status;
    std::uint32_t attempts;
    std::int32_t priority;
    kernel::Name job_name;
    Text<64> codelet;
    Text<32> device;
    AIOS_FIELDS(Reply, number, tag, job_id, submitted_ns, start_ns, end_ns, transfer_ns,
                predicted_transfer_ns, state, status, attempts, priority, job_name, codelet, device)
  };
};

/// Why task `number` failed, of the last 1,024 finished ones, or what memory it waits for. Of other
/// users' tasks only an operator is told. not_found: it is none of them.
struct TaskFailure {
  static constexpr std::uint16_t opcode = 24;
  static constexpr const char* name = "task_failure";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t number;
    AIOS_FIELDS(Request, number)
  };
  struct Reply {
    Text<400> text;
    AIOS_FIELDS(Reply, text)
  };
};

/// The scheduler's view of device `index`, over all drivers.
struct DeviceNext {
  static constexpr std::uint16_t opcode = 12;
  static constexpr const char* name = "device_next";
  static constexpr bool parks = true;
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t index;
    AIOS_FIELDS(Request, index)
  };
  struct Reply {
    driver::Device::Reply device;  ///< count is over all drivers
    std::uint64_t tasks_done;
    std::uint64_t tasks_failed;
    std::uint64_t busy_ns;
    /// As learned from `copies` to the device (0) and back (1); 0: nothing was.
    std::uint64_t copies;
    float copy_latency_ns[2];
    float copy_ns_per_mib[2];
    AIOS_FIELDS(Reply, device, tasks_done, tasks_failed, busy_ns, copies, copy_latency_ns,
                copy_ns_per_mib)
  };
};

inline constexpr std::uint32_t max_logged_candidates = 4;

/// What was known of a device when a task was placed. Without predictions (level 0) only `device`.
struct LoggedCandidate {
  float wait_ns;      ///< until it would begin there
  float transfer_ns;  ///< to bring its data there
  float mean_ns;      ///< run time, predicted
  float p95_ns;
  std::uint32_t samples;  ///< completions of this codelet and size there
  std::uint16_t device;
  std::uint8_t level;  ///< scheduler::Level: whose word the prediction is
  /// Whether it would have begun at once.
  static constexpr std::uint8_t began_at_once = 1;
  static constexpr std::uint8_t short_of_memory = 2;  ///< not, for its memory had no room
  static constexpr std::uint8_t fails = 3;  ///< nor at all: the codelet's last tasks there failed
  std::uint8_t at_once;
  AIOS_FIELDS(LoggedCandidate, wait_ns, transfer_ns, mean_ns, p95_ns, samples, device, level,
              at_once)
};

/// Of the last 8,192 placements: the last one of task `number`, or, where that is 0, the first with
/// a sequence above `after`. Only an operator's client sees other users'.
struct PlacementNext {
  static constexpr std::uint16_t opcode = 13;
  static constexpr const char* name = "placement_next";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t after;
    std::uint64_t number;
    AIOS_FIELDS(Request, after, number)
  };
  struct Reply {
    std::uint64_t sequence;  ///< 0: no such, no more
    std::uint64_t number;
    std::uint64_t tag;
    std::uint64_t job_id;
    std::uint64_t submitted_ns;
    std::uint64_t ready_ns;      ///< the last task that it depends on had ended
    std::uint64_t after_number;  ///< that task; 0: none
    std::uint64_t placed_ns;
    std::uint64_t start_ns;  ///< on the device; 0: not yet, or it failed
    std::uint64_t end_ns;
    std::uint64_t peak_memory_bytes;
    std::uint64_t opening_ns;   ///< of its wait, while a context was opened on that device
    std::uint64_t loading_ns;   ///< of its wait, while its module was loaded there
    std::uint64_t transfer_ns;  ///< as of TaskNext, measured
    std::uint64_t ahead_ns;     ///< of it, while what was given to the device before still ran
    /// From start to end; where threads share out its blocks, with all of them for itself instead.
    std::uint64_t alone_ns;
    std::uint32_t state;
    std::uint32_t status;
    std::uint32_t attempts;
    std::uint32_t dependency_count;
    std::uint32_t dependencies[max_dependencies];  ///< low 32 bits of tags
    std::uint8_t reason;                           ///< scheduler::Reason
    std::uint8_t considered;                       ///< devices
    std::uint8_t candidate_count;
    std::uint8_t width;  ///< threads that it kept busy
    std::uint8_t reserved[4];
    LoggedCandidate candidates[max_logged_candidates];  ///< the first was chosen
    kernel::Name job_name;
    Text<64> codelet;
    AIOS_FIELDS(Reply, sequence, number, tag, job_id, submitted_ns, ready_ns, after_number,
                placed_ns, start_ns, end_ns, peak_memory_bytes, opening_ns, loading_ns, transfer_ns,
                ahead_ns, alone_ns, state, status, attempts, dependency_count, dependencies, reason,
                considered, candidate_count, width, reserved, candidates, job_name, codelet)
  };
};

/// What has been learned of one codelet and size on one device. Only an operator's client sees
/// other users'. not_found: no more, or the policy learns nothing.
struct ModelNext {
  static constexpr std::uint16_t opcode = 14;
  static constexpr const char* name = "model_next";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t index;
    AIOS_FIELDS(Request, index)
  };
  struct Reply {
    double bytes;  ///< of its buffers
    double time_mean_ns;
    double time_p95_ns;
    double memory_mean_bytes;
    double memory_p95_bytes;
    double log_error;  ///< of the level that speaks, running mean of |log actual - log predicted|
    std::uint64_t footprint;
    std::uint64_t module_hash;
    std::uint32_t samples;
    std::uint32_t drifts;
    std::uint32_t level;
    std::uint32_t user;
    Text<64> codelet;
    Text<32> device;
    AIOS_FIELDS(Reply, bytes, time_mean_ns, time_p95_ns, memory_mean_bytes, memory_p95_bytes,
                log_error, footprint, module_hash, samples, drifts, level, user, codelet, device)
  };
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

/// What drivers looked for and did not find: number `index`, over all drivers.
struct AbsentNext {
  static constexpr std::uint16_t opcode = 16;
  static constexpr const char* name = "absent_next";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t index;
    AIOS_FIELDS(Request, index)
  };
  struct Reply {
    driver::Absent::Reply absent;  ///< count is over all drivers
    AIOS_FIELDS(Reply, absent)
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
  static constexpr std::uint16_t version = 15;
  using Methods =
      MethodList<Null, Drain, OpenTenant, CloseTenant, RegisterCodelet, RegisterBuffer,
                 ReleaseBuffer, SetArena, Submit, Completions, Failure, Cancel, TaskNext,
                 TaskFailure, DeviceNext, PlacementNext, ModelNext, CancelRange, AbsentNext,
                 Suspend, OpenGraph, AdmitGraph, GraphNext, SetCheaper, TreesNext, Training>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

}  // namespace aios::proto::scheduler
