// What the phases of a job share: its settings, its memory, what is to be done next, and what has
// been counted. Knows neither sockets nor clocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "abi/include/aios/mapreduce/format.hpp"
#include "abi/proto/mapreduce.hpp"
#include "abi/runtime/status.hpp"
#include "services/mapreduce/actions.hpp"
#include "services/mapreduce/attempts.hpp"
#include "services/mapreduce/pool.hpp"

namespace aios::mapreduce {

struct JobSettings {
  std::uint32_t reducers = 1;
  std::uint32_t threads = 1;
  std::uint64_t memory_bytes = 1u << 30;
  std::uint64_t split_count = 0;
  std::uint64_t input_bytes = 0;
  std::uint64_t max_bad_records = 0;
  std::uint64_t parameter_offset = 0;  ///< of the job's arguments in the parameters
  std::uint64_t parameter_bytes = 0;
  std::uint64_t names_offset = 0;
};

/// What the client says of a split that it lends.
struct LentSplit {
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;
  std::uint32_t pieces = 0;
  std::uint32_t first_document = 0;
};

/// How a job's memory is divided. Map: tables in the contexts and the pool share it; reduce: the
/// pool has it all.
struct MemoryPlan {
  std::uint32_t map_tasks;    ///< at once; fewer than threads when memory is short
  std::uint64_t table_bytes;  ///< of each map task
  std::uint64_t map_pool_bytes;
  std::uint64_t pool_bytes;
  std::uint64_t segment_bytes;
  std::uint64_t run_bytes;    ///< greatest run a map task is given room for
  std::uint64_t range_bytes;  ///< of sorted runs, merged by one task
};
MemoryPlan plan_memory(const JobSettings& settings);

/// A task names at most this many segments besides its parameters.
inline constexpr std::uint32_t max_segments = 15;
inline constexpr std::size_t max_runs = 8192;

/// What the client is to do; see proto::mapreduce::Next.
struct ClientEvent {
  proto::mapreduce::EventKind kind;
  std::uint32_t partition = 0;
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;
  std::uint64_t segment = 0;
};

struct JobFailure {
  Status status{Code::internal};
  std::uint64_t split = 0;
  std::uint64_t piece = proto::mapreduce::Failure::no_piece;
  std::uint64_t offset = 0;
  bool in_module = false;
};

class JobContext {
 public:
  explicit JobContext(const JobSettings& settings);

  const JobSettings settings;
  const MemoryPlan plan;
  Pool pool;
  Attempts attempts{*this};  ///< of map and reduce tasks
  std::vector<Action> actions;
  std::deque<ClientEvent> events;
  proto::mapreduce::Progress progress{};
  std::array<std::uint64_t, engine::max_counters> counters{};
  std::optional<JobFailure> failure;

  std::uint64_t next_tag() { return ++last_tag_; }

  /// Memory for `bytes`, from the pool. When there is none the pool grows, later, if it may: then
  /// `growing()` is true and the caller tries again after the client gave the segment.
  std::optional<Slice> allocate(std::uint64_t bytes);
  bool growing() const { return segment_wanted_ != 0; }
  /// From now on the pool may have all the job's memory.
  void use_all_memory() { pool_limit_ = plan.pool_bytes; }
  std::uint64_t pool_limit() const { return pool_limit_; }

  /// invalid_argument when none, or a larger one, was asked for.
  Result<void> add_segment(std::span<std::byte> memory);
  std::span<std::byte> bytes(const Slice& slice) const {
    return segments_[slice.segment].subspan(slice.offset, slice.bytes);
  }

  void start_task(StartTask task) {
    ++progress.tasks;
    actions.emplace_back(std::move(task));
  }

  /// The first failure counts.
  void fail(JobFailure why);
  void fail(Code code, std::string message) { fail(JobFailure{Status(code, std::move(message))}); }
  bool failed() const { return failure.has_value(); }

 private:
  std::vector<std::span<std::byte>> segments_;
  std::uint64_t pool_limit_;
  std::uint64_t segment_wanted_ = 0;
  std::uint64_t last_tag_ = 0;
};

}  // namespace aios::mapreduce
