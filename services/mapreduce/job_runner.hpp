// One job: its machine, and the scheduler, storage and memory that the machine's actions need.
//
// Lives until its last call to the scheduler or storage is answered: every callback holds it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "abi/lib/task_client.hpp"
#include "abi/proto/mapreduce.hpp"
#include "abi/runtime/handle_claims.hpp"
#include "services/mapreduce/job_machine.hpp"
#include "services/mapreduce/spill_store.hpp"

namespace aios::mapreduce {

/// What all jobs of the service use. Outlives them.
struct Services {
  Kernel& kernel;
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
  JobRunner(Services& services, const JobSettings& settings, const Submit::Request& request,
            std::uint64_t client, HandleClaims::Claimed region, HandleClaims::Claimed job,
            Mapping mapping, std::string prefix);

  using Registered = std::move_only_function<void(std::uint32_t)>;

  void opened(const Result<void>& result);
  /// A callback for a registration that is part of getting ready.
  TaskCallback<std::uint32_t> setting_up(std::uint32_t& into);
  void wait_for_completions();
  void complete(const proto::scheduler::Completion& completion);
  void perform();
  void act(const StartTask& task);
  void act(const PutRun& put);
  void act(const GetRun& get);
  void act(const ReleaseSplit& split);
  std::string object_name(std::uint64_t object) const;
  void finish();
  void remove_spills();

  struct Segment {
    ClaimedHandle handle;
    Mapping mapping;
    StoredRegionPointer stored;
    std::uint32_t buffer = 0;
  };

  Services& services_;
  Submit::Request request_;
  std::uint64_t client_;
  ClaimedHandle region_;
  ClaimedHandle job_;
  Mapping region_mapping_;
  std::string prefix_;
  TaskTenant tenant_;
  JobMachine machine_;
  std::function<void()> changed_;
  std::function<void()> submitted_;
  std::array<std::uint32_t, 3> codelets_{};  ///< describe, map, reduce
  std::uint32_t parameters_ = 0;
  std::uint32_t description_ = 0;
  std::uint32_t settings_up_ = 0;  ///< registrations that are not answered yet
  std::vector<Segment> segments_;
  std::map<std::uint64_t, std::vector<std::uint32_t>> splits_;  ///< buffers of each
  std::vector<TaskTenant::TaskRecord> records_;                 ///< to be submitted
  std::uint32_t transfers_ = 0;                                 ///< under way with storage
  bool spilled_ = false;
  bool finished_ = false;
};

}  // namespace aios::mapreduce
