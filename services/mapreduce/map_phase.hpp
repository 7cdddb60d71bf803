// The map phase: lent splits in, sorted runs out.
#pragma once

#include <cstdint>
#include <map>

#include "services/mapreduce/job_context.hpp"
#include "services/mapreduce/run_store.hpp"
#include "services/mapreduce/suspect.hpp"

namespace aios::mapreduce {

class MapPhase {
 public:
  MapPhase(JobContext& job, RunStore& runs) : job_(job), runs_(runs) {}

  /// Asks for the first splits and memory, before any task may start.
  void prepare();
  /// Asks for splits and starts tasks as far as memory and threads allow.
  void pump();
  /// invalid_argument when it is not the split that is due.
  Result<void> split_lent(const LentSplit& lent);
  bool owns(std::uint64_t tag) const { return tasks_.contains(tag); }
  void task_done(const Attempts::Ended& ended);
  /// `why` has the place that the task gave with its message, if it did; else its hint is taken.
  /// The job fails, or, while bad records may be skipped, goes on to find this one.
  void task_failed(const Attempts::Ended& ended, JobFailure why);
  /// The pool is full: what is in memory goes to storage, or must come free by itself.
  void make_room(std::uint64_t bytes);
  /// Every split is mapped and no task runs.
  bool finished() const { return next_split_ == job_.settings.split_count && splits_.empty(); }

 private:
  struct Split {
    std::uint64_t bytes;
    std::uint32_t pieces;
    std::uint32_t first_document;
    std::uint32_t piece = 0;
    std::uint64_t offset = 0;
    std::uint32_t sequence = 0;
    std::uint64_t need_bytes = 0;  ///< of a run, for its next record alone
    bool running = false;
    Suspect suspect;
  };
  struct Task {
    std::uint64_t split;
    Slice slice;  ///< that its run is in
  };

  void ask_for_splits();
  bool start_next();
  void start(std::uint64_t number, Split& split, const Slice& slice);
  void skip(std::uint64_t number, const Split& split, const JobFailure& why);
  std::uint64_t run_bytes(const Split& split) const;
  void advance(Split& split, std::uint64_t number, const TaskOutcome& outcome);
  bool take_run(const Task& task, std::uint64_t bytes);
  Task take(const Attempts::Ended& ended);

  JobContext& job_;
  RunStore& runs_;
  std::map<std::uint64_t, Split> splits_;         ///< lent and not yet mapped
  std::map<std::uint64_t, std::uint64_t> tasks_;  ///< which split each is of
  std::uint64_t next_split_ = 0;
  std::uint64_t asked_splits_ = 0;
};

}  // namespace aios::mapreduce
