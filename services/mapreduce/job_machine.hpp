// One job as a state machine: events in, actions and events for the client out. It knows neither
// sockets nor clocks, so that a test can drive it through every order of events.
//
// After every event take `actions()`. A task that is started ends with task_done or task_failed, a
// PutRun with put_done, a GetRun with get_done, each once and in any order; tasks at a place that
// is closed need not end. Once the job has failed or is done every further event is ignored.
#pragma once

#include <span>
#include <vector>

#include "services/mapreduce/job_context.hpp"
#include "services/mapreduce/map_phase.hpp"
#include "services/mapreduce/reduce_phase.hpp"
#include "services/mapreduce/run_store.hpp"

namespace aios::mapreduce {

class JobMachine {
 public:
  /// `description` is where the describe task writes.
  JobMachine(const JobSettings& settings, std::span<const std::byte> description);
  JobMachine(const JobMachine&) = delete;

  void start();

  // From the client. invalid_argument when it was not asked for.
  Result<void> split_lent(const LentSplit& split);
  Result<void> segment_added(std::span<std::byte> memory);
  Result<void> written(std::uint64_t output);
  Result<void> spare_added();

  // From the scheduler.
  void task_done(std::uint64_t tag, std::uint32_t attempts, const TaskOutcome& outcome);
  /// `why` may begin with "@PIECE:OFFSET ", the place in the task's split.
  void task_failed(std::uint64_t tag, std::uint32_t attempts, const Status& why);
  void place_ready(Place place);
  void place_refused(Place place, const Status& why);
  void place_closed(Place place);

  /// Several times a second: looks for tasks that take too long. Any clock that does not go back.
  void look(std::uint64_t now_ns);

  // From storage.
  void put_done(std::uint64_t object, const Result<void>& result);
  void get_done(std::uint64_t tag, const Result<std::uint64_t>& bytes, std::uint64_t wanted);

  /// Ends the job from outside: cancelled, a service lost, no memory.
  void abort(const Status& why) { job_.fail(JobFailure{why}); }

  std::vector<Action> take_actions();
  bool has_event() const { return !job_.events.empty(); }
  ClientEvent take_event();

  bool over() const { return job_.failed() || done_; }
  const std::optional<JobFailure>& failure() const { return job_.failure; }
  const proto::mapreduce::Progress& progress() const { return job_.progress; }
  const std::array<std::uint64_t, engine::max_counters>& counters() const { return job_.counters; }

 private:
  void pump();
  void deliver();
  void start_description(std::uint64_t tag, TaskKind kind, std::uint32_t partitions);
  void described();
  Result<void> sample_lent(std::uint32_t pieces);
  void sampled();

  JobContext job_;
  std::span<const std::byte> description_;
  RunStore runs_;
  MapPhase map_;
  ReducePhase reduce_;
  std::uint64_t describe_tag_ = 0;
  std::uint64_t sample_tag_ = 0;
  bool sample_wanted_ = false;  ///< asked for and not lent yet
  bool ready_ = false;          ///< the module has described itself, and boundaries are chosen
  bool done_ = false;
};

}  // namespace aios::mapreduce
