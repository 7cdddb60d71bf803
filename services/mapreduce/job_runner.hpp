// One job: its machine, and the scheduler, storage and memory that the machine's actions need.
//
// Lives until its last call to the scheduler or storage is answered: every callback holds it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "abi/runtime/event_loop.hpp"
#include "services/mapreduce/job_machine.hpp"
#include "services/mapreduce/task_place.hpp"

namespace aios::mapreduce {

/// What all jobs of the service use. Outlives them.
struct Services {
  Kernel& kernel;
  EventLoop& loop;
  HandleClaims& claims;
  TaskLink& tasks;
  SpillStore& spills;
};

class JobRunner : public std::enable_shared_from_this<JobRunner> {
 public:
  using Submit = proto::mapreduce::Submit;
  using Lend = proto::mapreduce::Lend;

  /// Takes the handles of a checked request of process `client`. `prefix` begins the names of its
  /// spilled runs and ends in '/'. Errors as Submit documents.
  static Result<std::shared_ptr<JobRunner>> create(Services& services,
                                                   const Submit::Request& request,
                                                   std::uint64_t client, std::string prefix);
  JobRunner(const JobRunner&) = delete;

  /// `changed` runs when there may be an event for the client; `submitted` when a place for a
  /// batch of tasks has come free.
  void start(std::function<void()> changed, std::function<void()> submitted);

  void lend(const Lend::Request& request, std::move_only_function<void(Result<proto::Empty>)> done);
  Result<void> add_segment(Handle region);
  Result<void> add_spare(Handle job);
  Result<void> written(std::uint64_t output);
  /// Ends it from outside and cleans up; harmless when it is over.
  void abort(const Status& why);
  /// A call to the scheduler failed, or it is gone (peer_closed) with everything registered there.
  void scheduler_failed(const Status& why);
  /// Sends tasks that found no place for their batch.
  void submit_tasks();

  const JobMachine& machine() const { return machine_; }
  JobMachine& machine() { return machine_; }

 private:
  JobRunner(Services& services, const JobSettings& settings, std::uint64_t client, JobParts parts,
            ClaimedHandle job, std::string prefix);

  void open(Place place);
  void opened(Place place, const Result<void>& result);
  void close(Place place);
  void look_again();
  void complete(Place place, const proto::scheduler::Completion& completion);
  void perform();
  void act(const StartTask& task);
  void act(const CancelTask& task);
  void act(const OpenPlace& open);
  void act(const ClosePlace& close);
  void act(const PutRun& put);
  void act(const GetRun& get);
  void act(const ReleaseSplit& split);
  /// Has every open place do something; then `done`.
  void everywhere(std::move_only_function<void(TaskPlace&, TaskPlace::Done)> what,
                  TaskPlace::Done done);
  std::string object_name(std::uint64_t object) const;
  void finish();
  void remove_spills();

  Services& services_;
  std::uint64_t client_;
  JobParts parts_;
  std::array<ClaimedHandle, place_count> jobs_;  ///< of the places
  std::array<std::shared_ptr<TaskPlace>, place_count> places_;
  std::string prefix_;
  JobMachine machine_;
  std::function<void()> changed_;
  std::function<void()> submitted_;
  bool started_ = false;
  std::uint32_t transfers_ = 0;  ///< under way with storage
  bool spilled_ = false;
  bool finished_ = false;
};

}  // namespace aios::mapreduce
