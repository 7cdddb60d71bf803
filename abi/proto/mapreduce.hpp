// The MapReduce service's protocol: a client submits a job, lends its input split by split, gives
// memory, and writes the output; the service turns all that into tasks of the client's own job.
//
// A client that has to copy or unpack its input first has the job listed meanwhile (`Prepare`), and
// one that leads the job itself, over devices, all the time.
// The client asks `Next` what to do until it hears `done` or `failed`. The job lives as long as its
// client's link: when that closes the job is cancelled and everything of it is removed.
#pragma once

#include "abi/proto/kernel.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::mapreduce {

inline constexpr std::uint32_t max_jobs = 32;
inline constexpr std::uint32_t max_reducers = 512;
inline constexpr std::uint32_t max_threads = 256;
inline constexpr std::uint64_t min_memory_bytes = 8ull << 20;
inline constexpr std::uint64_t max_memory_bytes = 1ull << 40;
inline constexpr std::uint64_t max_splits = 1u << 20;
inline constexpr std::uint32_t max_channels = 8;  ///< file channels of one split
inline constexpr std::uint32_t max_counters = 16;
inline constexpr std::uint64_t max_bad_records = 100'000;
inline constexpr std::uint64_t max_parameter_bytes = 64u << 10;

/// Offset 0 of the job region is where the job describes itself, its counters among it
/// (engine::Description of <aios/mapreduce/format.hpp>), and boundaries between its partitions;
/// after engine::job_header_bytes(reducers) parameters and module follow.
inline constexpr std::uint64_t description_bytes = 4096;

/// Begins a job. `region` (map_read and map_write, and both with send to grant; moved) holds the
/// module and the job's arguments ("a\0b\0"). `job` (act, and act with send to grant; moved) is the
/// job on whose behalf all runs. Errors: invalid_argument, naming what; quota: too many jobs;
/// service_down; cancelled: it was while it was prepared.
struct Submit {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "submit";
  struct Request {
    kernel::Handle region;
    kernel::Handle job;
    std::uint64_t module_offset;
    std::uint64_t module_bytes;
    std::uint64_t parameter_offset;
    std::uint64_t parameter_bytes;
    std::uint64_t names_offset;  ///< of engine::DocumentNames, before the parameters; 0: none
    std::uint64_t split_count;
    std::uint64_t input_bytes;
    std::uint64_t memory_bytes;     ///< for tables, runs and merging
    std::uint64_t limit_ns;         ///< of one task; 0: none
    std::uint64_t max_bad_records;  ///< skipped rather than fail the job
    std::uint64_t prepared;         ///< the job's number by Prepare; 0, or not known any more: none
    std::uint32_t reducers;
    std::uint32_t threads;  ///< greatest number of tasks in flight
    Text<32> label;         ///< what listings call the job
    AIOS_FIELDS(Request, region, job, module_offset, module_bytes, parameter_offset,
                parameter_bytes, names_offset, split_count, input_bytes, memory_bytes, limit_ns,
                max_bad_records, prepared, reducers, threads, label)
  };
  struct Reply {
    std::uint64_t job;
    AIOS_FIELDS(Reply, job)
  };
};

enum class Phase : std::uint32_t {
  map = 0,
  reduce = 1,
  done = 2,
  failed = 3,
  fetching = 4,   ///< before it is submitted: objects are copied from storage
  unpacking = 5,  ///< before it is submitted: of the input, what is compressed
};

struct Progress {
  std::uint64_t mapped_bytes;  ///< of the input; fetching and unpacking: fetched, unpacked of it
  std::uint64_t merge_bytes;   ///< of sorted runs, known when the reduce phase begins
  std::uint64_t merged_bytes;
  std::uint64_t records;        ///< read by map
  std::uint64_t distinct_keys;  ///< written
  std::uint64_t tasks;
  std::uint64_t attempts;  ///< of those tasks
  std::uint64_t spilled_bytes;
  std::uint32_t phase;
  std::uint32_t skipped_records;  ///< not among `records`
  std::uint32_t transfers;        ///< sorted runs that are on their way to or from storage
  /// Of tasks that took far longer than others of their kind; they are among the tasks.
  std::uint32_t second_attempts;
  std::uint32_t second_attempts_won;  ///< they ended before the first ones
  std::uint32_t reserved;
  AIOS_FIELDS(Progress, mapped_bytes, merge_bytes, merged_bytes, records, distinct_keys, tasks,
              attempts, spilled_bytes, phase, skipped_records, transfers, second_attempts,
              second_attempts_won, reserved)
};

enum class EventKind : std::uint32_t {
  progress = 0,        ///< nothing to do; sent every `progress_interval_ns`
  lend_splits = 1,     ///< lend the splits below `number`
  add_segment = 2,     ///< give a region of `bytes`
  write_output = 3,    ///< append (segment, offset, bytes) to part `partition`, then say Written
  done = 4,            ///< every part is written
  failed = 5,          ///< why is in Failure
  lend_sample = 6,     ///< lend pieces from all over the input, as split `sample_split`
  record_skipped = 7,  ///< of split `number`, piece `partition`, at `offset`; why: code `segment`
  add_spare = 8,       ///< give a job for second attempts; who cannot gives none
};
/// Of Lend: not one of the job's splits, but a sample of them all, read to choose boundaries.
inline constexpr std::uint64_t sample_split = ~0ull;
inline constexpr std::uint64_t progress_interval_ns = 200'000'000;

/// Lists a job of the caller's before it is submitted, or one that never is because the caller does
/// its work, and tells how far that is. Errors: invalid_argument, naming what; quota: too many
/// jobs; service_down; cancelled: by Cancel; not_found: none of this number is the caller's and not
/// submitted.
struct Prepare {
  static constexpr std::uint16_t opcode = 10;
  static constexpr const char* name = "prepare";
  struct Request {
    std::uint64_t job;          ///< 0: a new one
    std::uint64_t input_bytes;  ///< of what the phase reads
    std::uint32_t reducers;     ///< 0: its client leads it
    std::uint32_t threads;
    Text<32> label;
    Progress progress;  ///< in any phase but `failed`
    AIOS_FIELDS(Request, job, input_bytes, reducers, threads, label, progress)
  };
  struct Reply {
    std::uint64_t job;
    AIOS_FIELDS(Reply, job)
  };
};

/// Answered as soon as the client has something to do. Events come in an order that may be relied
/// on: the pieces of every part in their order, one part after the other.
struct Next {
  static constexpr std::uint16_t opcode = 2;
  static constexpr const char* name = "next";
  struct Request {
    std::uint64_t job;
    AIOS_FIELDS(Request, job)
  };
  struct Reply {
    std::uint32_t kind;  ///< EventKind
    std::uint32_t partition;
    std::uint64_t number;
    std::uint64_t bytes;
    std::uint64_t offset;
    std::uint64_t segment;
    Progress progress;
    std::uint64_t counters[max_counters];  ///< of attempts that won; final with `done`
    AIOS_FIELDS(Reply, kind, partition, number, bytes, offset, segment, progress, counters)
  };
};

/// Split `split`, the next one in order or the sample that was asked for: `channels` file channels
/// (send to use, map_read and send to grant; moved) with `pieces` pieces in all.
struct Lend {
  static constexpr std::uint16_t opcode = 3;
  static constexpr const char* name = "lend";
  struct Request {
    std::uint64_t job;
    std::uint64_t split;
    std::uint64_t bytes;
    std::uint64_t first_document;  ///< number of the first piece's file, as in the names
    std::uint32_t pieces;
    std::uint32_t channel_count;
    kernel::Handle channels[max_channels];
    AIOS_FIELDS(Request, job, split, bytes, first_document, pieces, channel_count, channels)
  };
  using Reply = Empty;
};

/// A region of the size asked for (rights as in Submit; moved). Segments count from 0.
struct AddSegment {
  static constexpr std::uint16_t opcode = 4;
  static constexpr const char* name = "add_segment";
  struct Request {
    std::uint64_t job;
    kernel::Handle region;
    AIOS_FIELDS(Request, job, region)
  };
  using Reply = Empty;
};

/// A job below the submitted one (rights as there; moved): second attempts at tasks run in contexts
/// of its own. invalid_argument: it was not asked for.
struct AddSpare {
  static constexpr std::uint16_t opcode = 9;
  static constexpr const char* name = "add_spare";
  struct Request {
    std::uint64_t job;
    kernel::Handle spare;
    AIOS_FIELDS(Request, job, spare)
  };
  using Reply = Empty;
};

/// The output of write_output `number` is taken: its memory may be used again.
struct Written {
  static constexpr std::uint16_t opcode = 5;
  static constexpr const char* name = "written";
  struct Request {
    std::uint64_t job;
    std::uint64_t number;
    AIOS_FIELDS(Request, job, number)
  };
  using Reply = Empty;
};

/// Why a job failed. `piece` is not `no_piece` when it is about a place in a file of split `split`:
/// the client knows its name.
struct Failure {
  static constexpr std::uint16_t opcode = 6;
  static constexpr const char* name = "failure";
  static constexpr std::uint64_t no_piece = ~0ull;
  struct Request {
    std::uint64_t job;
    AIOS_FIELDS(Request, job)
  };
  struct Reply {
    std::uint64_t split;
    std::uint64_t piece;
    std::uint64_t offset;
    std::uint32_t status;     ///< aios::Code
    std::uint32_t in_module;  ///< 1: it is about the module or its arguments, not the input
    Text<392> text;
    AIOS_FIELDS(Reply, split, piece, offset, status, in_module, text)
  };
};

/// Ends a job of the caller's, or of the caller's uid: it fails with `cancelled`. not_found.
struct Cancel {
  static constexpr std::uint16_t opcode = 7;
  static constexpr const char* name = "cancel";
  struct Request {
    std::uint64_t job;
    AIOS_FIELDS(Request, job)
  };
  using Reply = Empty;
};

/// The first job with a number above `after` that the caller may see: its uid's, or all for the
/// instance's own. For listings.
struct JobNext {
  static constexpr std::uint16_t opcode = 8;
  static constexpr const char* name = "job_next";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t after;
    AIOS_FIELDS(Request, after)
  };
  struct Reply {
    std::uint64_t job;  ///< 0: no more
    std::uint64_t kernel_job_id;
    std::uint64_t started_ns;
    std::uint64_t input_bytes;
    std::uint32_t uid;
    std::uint32_t reducers;
    std::uint32_t threads;
    std::uint32_t reserved;
    Text<32> label;
    Progress progress;
    AIOS_FIELDS(Reply, job, kernel_job_id, started_ns, input_bytes, uid, reducers, threads,
                reserved, label, progress)
  };
};

struct Protocol {
  static constexpr const char* name = "mapreduce";
  static constexpr std::uint16_t version = 9;
  using Methods = MethodList<Null, Drain, Submit, Next, Lend, AddSegment, Written, Failure, Cancel,
                             JobNext, AddSpare, Prepare>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

}  // namespace aios::proto::mapreduce
