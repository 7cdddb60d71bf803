// One range of keys of one partition, merged over all runs by one task after another.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "services/mapreduce/job_context.hpp"
#include "services/mapreduce/run_store.hpp"

namespace aios::mapreduce {

/// A run's part in a range. In memory it is read where it lies; spilled, through a window.
struct MergeSource {
  const Run* run = nullptr;
  std::uint64_t cursor = 0;  ///< in the partition: what lies before is merged
  std::uint64_t end = 0;
  Slice window;  ///< empty for a run in memory
  std::uint64_t loaded_from = 0;
  std::uint64_t loaded_end = 0;
  std::uint64_t wanted_window_bytes = 0;  ///< a key's records are larger than the window
  bool used_up = false;                   ///< more must be fetched, however much is left

  bool all_loaded() const { return window.bytes == 0 || loaded_end == end; }
};

struct MergeRange {
  std::uint32_t partition = 0;
  std::uint64_t begin_prefix = 0;
  std::uint64_t end_prefix = 0;
  bool has_end = false;
};

/// Lines that a task wrote and the client has not been told of yet.
struct OutputPiece {
  std::size_t slot;
  std::uint64_t offset;  ///< in the segment
  std::uint64_t bytes;
};

class MergeStream {
 public:
  enum class State { closed, waiting, loading, running, finished, released };

  MergeStream(JobContext& job, MergeRange range) : job_(job), range_(range) {}

  const MergeRange& range() const { return range_; }
  State state() const { return state_; }
  void add_source(const Run& run);
  bool empty() const { return sources_.empty(); }
  std::size_t spilled_sources() const;

  /// Takes windows of `window_bytes`, a plan and two outputs; false (and nothing) when the pool has
  /// not got them.
  bool open(std::uint64_t window_bytes);
  /// Gives everything back and forgets what was merged. Not while busy.
  void reset();
  /// Of a finished range: gives everything back but outputs that the client still has.
  void release();
  /// The client has taken an output.
  void written(std::size_t slot);
  /// Starts gets or a task if one can be started. False when it needs memory that is not there.
  bool pump();
  bool busy() const { return state_ == State::loading || state_ == State::running; }

  bool owns(std::uint64_t tag) const { return task_ == tag || gets_.contains(tag); }
  void got(std::uint64_t tag);
  void task_done(const Attempts::Ended& ended);

  std::deque<OutputPiece>& outputs() { return outputs_; }
  std::uint32_t segment_of(std::size_t slot) const { return slots_[slot].slice.segment; }
  /// Adds what this range counted to the job.
  void count();
  /// What opening takes with windows of so many bytes.
  std::uint64_t bytes_to_open(std::uint64_t window_bytes) const;

 private:
  struct Slot {
    Slice slice;
    bool used = false;
  };

  void give_back();
  bool enlarge();
  bool refill();
  bool start_merge();
  void write_plan();
  bool take_header(const TaskOutcome& outcome);
  bool stop_at(const TaskOutcome& outcome);
  void nonsense();
  std::uint64_t output_bytes() const;

  JobContext& job_;
  MergeRange range_;
  State state_ = State::closed;
  std::vector<MergeSource> sources_;
  Slice plan_;
  std::array<Slot, 2> slots_;
  std::size_t slot_ = 0;  ///< that the running task writes to
  std::uint64_t wanted_output_bytes_ = 0;
  std::uint64_t task_ = 0;
  std::map<std::uint64_t, std::size_t> gets_;  ///< tag to source
  std::deque<OutputPiece> outputs_;
  std::vector<std::uint64_t> consumed_;
  std::uint64_t keys_ = 0;
  std::uint64_t merged_bytes_ = 0;
  std::array<std::uint64_t, engine::max_counters> counters_{};
};

}  // namespace aios::mapreduce
