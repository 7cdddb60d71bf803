// The sorted runs of a job, in memory or spilled to storage.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "services/mapreduce/job_context.hpp"
#include "services/mapreduce/run.hpp"

namespace aios::mapreduce {

struct Run {
  RunInfo info;
  std::uint64_t bytes = 0;
  std::uint64_t object = 0;  ///< its name in storage
  Slice slice;               ///< empty once it is spilled
  bool spilling = false;

  bool spilled() const { return slice.bytes == 0; }
};

class RunStore {
 public:
  explicit RunStore(JobContext& job) : job_(job) {}

  /// Runs are ordered by the input they came from: split, then how often it was gone on with.
  void add(std::uint64_t split, std::uint32_t sequence, RunInfo info, Slice slice,
           std::uint64_t bytes);
  std::size_t size() const { return runs_.size(); }
  std::vector<Run*> in_order();

  /// Sends the largest runs in memory to storage until `bytes` more will be free. False when there
  /// is none left.
  bool spill(std::uint64_t bytes);
  bool spilling() const { return spilling_ != 0; }
  void put_done(std::uint64_t object);

  std::uint64_t memory_bytes() const;

 private:
  JobContext& job_;
  std::map<std::pair<std::uint64_t, std::uint32_t>, Run> runs_;
  std::uint64_t last_object_ = 0;
  std::uint32_t spilling_ = 0;
};

}  // namespace aios::mapreduce
