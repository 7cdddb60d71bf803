// The part of the scheduler's protocol by which it tells what it has and what it did.
#pragma once

#include "abi/proto/device.hpp"
#include "abi/proto/kernel.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::scheduler {

inline constexpr std::uint32_t max_dependencies = 12;  ///< of one task

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

/// What there is of the job with the least id above `after`, of jobs with an open tenant; and what
/// there was since it had its first. Only an operator's client sees other users'.
struct LoadNext {
  static constexpr std::uint16_t opcode = 25;
  static constexpr const char* name = "load_next";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t after;
    AIOS_FIELDS(Request, after)
  };
  struct Reply {
    std::uint64_t job_id;  ///< 0: no more
    std::uint64_t tasks_done;
    std::uint64_t tasks_failed;  ///< those that were cancelled among them
    std::uint64_t busy_ns;       ///< of devices' threads with its tasks that ended
    std::uint32_t waiting;       ///< tasks: for others, for data, for a device
    std::uint32_t running;       ///< given to a context
    AIOS_FIELDS(Reply, job_id, tasks_done, tasks_failed, busy_ns, waiting, running)
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

}  // namespace aios::proto::scheduler
