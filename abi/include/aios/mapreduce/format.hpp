// What the engine inside a job's module and the MapReduce service say to each other: the arguments
// of the two tasks, the layout of a sorted run and of a reduce task's output.
//
// All of it lies in memory of the client's job. The engine trusts its arguments; the service trusts
// nothing that a task wrote, and copies before it checks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aios::mapreduce::engine {

/// Grows with every change to what follows; `describe` reports it, and the service refuses others.
inline constexpr std::uint64_t format_version = 5;

inline constexpr std::uint32_t max_partitions = 512;
inline constexpr std::uint32_t max_counters = 16;
inline constexpr std::uint32_t max_counter_name_bytes = 32;  ///< with its NUL
inline constexpr std::uint64_t max_word_bytes = 1u << 20;
inline constexpr std::uint64_t max_line_bytes = 16u << 20;
inline constexpr std::uint64_t max_record_bytes = 16u << 20;  ///< of a record of an input format
inline constexpr std::uint32_t max_field_name_bytes = 1024;
/// A run's index has an entry about every so many bytes of a partition.
inline constexpr std::uint64_t index_stride_bytes = 16u << 10;
/// Regions are used in units of this.
inline constexpr std::uint64_t unit_bytes = 4096;

// ---- describe: buffers { parameters (read), reply (write), files... } -----------------------

/// What the describe task writes at the offset its arguments name. Making the job object from its
/// arguments is part of it, so bad job arguments fail here, before any input is read.
struct Description {
  std::uint64_t version;
  std::uint32_t counter_count;
  std::uint32_t flags;
  char counter_names[max_counters][max_counter_name_bytes];
};

/// Of `flags`: every key of a partition is below every key of the next one, so the map tasks need
/// the boundaries between partitions.
inline constexpr std::uint32_t total_order_flag = 1;

/// Job arguments in the parameter buffer: "a\0b\0" in (offset, bytes). With `partitions` above 1
/// the task reads the file buffers, a sample of the input, and writes boundaries too.
struct DescribeArguments {
  std::uint64_t parameter_offset;
  std::uint64_t parameter_bytes;
  std::uint64_t reply_offset;
  std::uint64_t partitions;
};

/// The parameter buffer begins with the description, and in the same page the input's format; then,
/// for more than one partition, the boundaries: their number, then in slots of their own those
/// between partitions 0 and 1, 1 and 2 and so on, ascending. Boundaries that a short sample did not
/// give leave the last ones empty.
inline constexpr std::uint64_t description_bytes = 4096;
inline constexpr std::uint64_t max_boundary_bytes = 510;
struct BoundarySlot {
  std::uint16_t length;
  char bytes[max_boundary_bytes];
};
static_assert(sizeof(BoundarySlot) == 512);

/// What the records of the input are.
enum class RecordKind : std::uint32_t {
  by_job = 0,      ///< words or lines of text, as the job wants them
  csv = 1,         ///< pieces begin where a record does
  json_lines = 2,  ///< pieces begin anywhere
  fixed = 3,       ///< `record_bytes` each; pieces begin where a record does
};
/// How the part of a record that the job sees is named.
enum class FieldKind : std::uint32_t { none = 0, number = 1, name = 2 };

/// The client writes it at `input_format_offset` of the parameter buffer; zero: text.
struct InputFormat {
  RecordKind records;
  FieldKind field;
  std::uint64_t record_bytes;
  std::uint64_t field_begin;  ///< csv: its number, from 0; fixed: the offset of its first byte
  std::uint64_t field_bytes;  ///< fixed
  std::uint32_t later_stage;  ///< 1: the input is what another job wrote: it has no documents
  std::uint16_t name_bytes;
  char delimiter;  ///< csv
  char reserved;
  char name[max_field_name_bytes];  ///< csv: of the header; json_lines: of a member, or a pointer
};
inline constexpr std::uint64_t input_format_offset = 2048;
static_assert(input_format_offset >= sizeof(Description) &&
              input_format_offset + sizeof(InputFormat) <= description_bytes);

/// What precedes the job's arguments in the parameter buffer.
constexpr std::uint64_t job_header_bytes(std::uint32_t partitions) {
  const std::uint64_t slots = partitions > 1 ? partitions * sizeof(BoundarySlot) : 0;
  return description_bytes + (slots + unit_bytes - 1) / unit_bytes * unit_bytes;
}

// ---- map: buffers { parameters (read), run segment (write), files... } ----------------------
//
// Reads from `piece` at `offset` (0: from the piece's beginning) to the end of the split, or until
// the table or the run is full, and writes one sorted run. Result words: the piece and the offset
// to go on from (piece = number of pieces when all is read), records read, run bytes. No run bytes
// and an unchanged position: the next record alone needs a run of `records read` bytes.
//
// While it maps, the run's place begins with MapHint: where it is, for whoever finds it crashed.

struct MapArguments {
  std::uint64_t run_offset;
  std::uint64_t run_bytes;
  std::uint64_t table_bytes;  ///< private memory for combining
  std::uint64_t offset;
  std::uint32_t piece;  ///< counted over all file buffers
  std::uint32_t partitions;
  std::uint64_t parameter_offset;
  std::uint64_t parameter_bytes;
  std::uint32_t
      first_document;  ///< the number of the file of piece 0; every piece is of the next one
  std::uint32_t record_limit;  ///< it stops after so many; 0: none; or skip_one_record
};
static_assert(sizeof(MapArguments) <= 64);

/// As record_limit: reads one record and does not map it.
inline constexpr std::uint32_t skip_one_record = ~0u;

inline constexpr std::uint64_t hint_magic = 0x31746e69685f726dull;

struct MapHint {
  std::uint64_t magic;
  std::uint64_t records;  ///< begun in this task
  std::uint64_t piece;
  std::uint64_t offset;  ///< in its file, of the last of them
};

inline constexpr std::uint64_t run_magic = 0x316e75725f726d61ull;

/// A run: this header, a PartitionEntry per partition, the records of each partition in order of
/// their keys, then the index. Offsets count from the header.
struct RunHeader {
  std::uint64_t magic;
  std::uint32_t partitions;
  std::uint32_t index_count;
  std::uint64_t index_offset;
  std::uint64_t records;
  std::uint64_t counters[max_counters];
};

struct PartitionEntry {
  std::uint64_t offset;
  std::uint64_t bytes;
  std::uint64_t records;
  std::uint32_t index_first;
  std::uint32_t index_count;
};

/// A record begins `offset` bytes into its partition and its key's first eight bytes, as a
/// big-endian number, are `prefix`. Ascending in both.
struct IndexEntry {
  std::uint64_t prefix;
  std::uint64_t offset;
};

/// Room in a run of `bytes` for records.
constexpr std::uint64_t run_payload(std::uint64_t bytes, std::uint32_t partitions) {
  const std::uint64_t fixed =
      sizeof(RunHeader) + partitions * (sizeof(PartitionEntry) + 2 * sizeof(IndexEntry));
  const std::uint64_t index = (bytes / index_stride_bytes + 2) * sizeof(IndexEntry);
  return bytes > fixed + index ? bytes - fixed - index : 0;
}

// ---- reduce: buffers { parameters (read), segments... } --------------------------------------
//
// Merges one window of each run and writes "key\tvalue\n" lines, until every run is at its end or
// at `end_prefix`, a window that is not the last of its run is used up, or the output is full.
// Only whole keys are written; the positions reached are in the output's header. Result words:
// ReduceStop, output bytes (header and lines), keys written, and for `window_used` the run.

struct ReduceArguments {
  std::uint32_t plan_buffer;  ///< position among the task's buffers
  std::uint32_t output_buffer;
  std::uint64_t plan_offset;
  std::uint64_t output_offset;
  std::uint64_t output_bytes;
  std::uint64_t parameter_offset;
  std::uint64_t parameter_bytes;
  std::uint64_t names_offset;  ///< of DocumentNames in the parameter buffer; 0: there are none
};
static_assert(sizeof(ReduceArguments) <= 64);

/// The names of the input files that are not empty, in order: this, then `count` + 1 offsets from
/// here, of where each name begins and the last one ends.
struct DocumentNames {
  std::uint64_t count;
};
/// Of all of it. A job over more files has no names.
inline constexpr std::uint64_t max_names_bytes = 32u << 20;

struct MergePlan {
  std::uint64_t begin_prefix;  ///< keys with a smaller prefix are skipped
  std::uint64_t end_prefix;    ///< keys with this prefix or a greater one are left
  std::uint32_t has_end;
  std::uint32_t window_count;
};

/// Follow the plan, in the order of the input that the runs came from.
struct MergeWindow {
  std::uint32_t buffer;  ///< position among the task's buffers
  std::uint32_t last;    ///< 1: nothing of this run follows
  std::uint64_t offset;
  std::uint64_t bytes;
};

enum class ReduceStop : std::uint64_t {
  done = 0,
  window_used = 1,  ///< more of the run in word 3 is needed
  output_full = 2,  ///< without a single key: the next one alone does not fit
};

/// Begins the output, and is written as soon as the task begins; `window_count` words follow, the
/// bytes consumed of each window, then from `output_header_bytes` on the lines.
struct OutputHeader {
  std::uint64_t records;  ///< merged
  std::uint64_t counters[max_counters];
};

constexpr std::uint64_t output_header_bytes(std::uint64_t window_count) {
  const std::uint64_t bytes = sizeof(OutputHeader) + window_count * sizeof(std::uint64_t);
  return (bytes + unit_bytes - 1) / unit_bytes * unit_bytes;
}

}  // namespace aios::mapreduce::engine
