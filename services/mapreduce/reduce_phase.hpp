// The reduce phase: sorted runs in, the lines of every part out, in order.
//
// Every partition is cut into ranges of keys that are merged by tasks of their own, several at a
// time. Their outputs go to the client strictly in order: the first unfinished range, the head, is
// the only one whose output is handed out, and it always has what it needs to go on.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "services/mapreduce/job_context.hpp"
#include "services/mapreduce/merge_stream.hpp"
#include "services/mapreduce/run_store.hpp"

namespace aios::mapreduce {

class ReducePhase {
 public:
  ReducePhase(JobContext& job, RunStore& runs) : job_(job), runs_(runs) {}

  void pump();
  bool owns(std::uint64_t tag) const;
  void task_done(const Attempts::Ended& ended);
  void got(std::uint64_t tag);
  /// invalid_argument when no such output is with the client.
  Result<void> written(std::uint64_t number);
  bool finished() const { return prepared_ && head_ == streams_.size() && written_.empty(); }

 private:
  struct Written {
    std::size_t stream;
    std::size_t slot;
  };

  bool prepare();
  void make_streams();
  bool choose_windows();
  void open_streams();
  void deliver();
  void starve();

  JobContext& job_;
  RunStore& runs_;
  bool prepared_ = false;
  std::vector<MergeStream> streams_;
  std::size_t head_ = 0;
  std::size_t opened_ = 0;  ///< no stream from here on was ever open
  std::size_t active_ = 1;  ///< streams open at once
  std::uint64_t window_bytes_ = 0;
  std::map<std::uint64_t, Written> written_;  ///< outputs that the client has
  std::uint64_t last_output_ = 0;
};

}  // namespace aios::mapreduce
