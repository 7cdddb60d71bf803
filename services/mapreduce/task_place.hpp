// A tenant of the scheduler for one job of MapReduce, and what the tasks there name: the module's
// codelets, the job's memory, lent splits. A job has another one for second attempts.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "abi/lib/task_client.hpp"
#include "abi/proto/mapreduce.hpp"
#include "abi/runtime/handle_claims.hpp"
#include "services/mapreduce/actions.hpp"
#include "services/mapreduce/spill_store.hpp"

namespace aios::mapreduce {

/// The handles that a job's tasks need at every place.
struct JobParts {
  struct Segment {
    ClaimedHandle handle;
    Mapping mapping;
    StoredRegionPointer stored;
  };
  proto::mapreduce::Submit::Request request{};
  ClaimedHandle region;
  Mapping region_mapping;
  std::vector<Segment> segments;
  std::map<std::uint64_t, std::vector<ClaimedHandle>> splits;  ///< channels of those lent now
};

class TaskPlace : public std::enable_shared_from_this<TaskPlace> {
 public:
  /// None is called any more once it was closed.
  struct Events {
    /// Once: all that the job has so far is registered; or it cannot be.
    std::function<void(const Result<void>&)> opened;
    std::function<void(const TaskTenant::Completions&)> completed;
    /// A call to the scheduler failed.
    std::function<void(const Status&)> failed;
  };
  using Done = std::move_only_function<void()>;

  /// The link and the parts outlive its calls.
  TaskPlace(TaskLink& link, const JobParts& parts, Events events)
      : parts_(parts), events_(std::move(events)), tenant_(link) {}

  /// On behalf of `job`: a handle as in TaskTenant::open.
  void open(Handle job);
  /// Tasks may be added. What the job gets from now on is to be added, too.
  bool is_open() const { return tenant_.is_open() && !closing_; }
  /// `done` when no task of it runs any more, or the scheduler is gone.
  void close(Done done);

  /// Registers the segment, or split, of that number. `done` is called also when it was closed.
  void add_segment(std::size_t number, Done done);
  void add_split(std::uint64_t number, Done done);
  void release_split(std::uint64_t number);

  /// To be sent by `submit`.
  void add(const StartTask& task);
  void submit(const std::function<void()>& submitted);
  void cancel(std::uint64_t tag);
  void failure(std::uint64_t tag, TaskCallback<std::string> done);

 private:
  void register_all();
  TaskCallback<std::uint32_t> registered(std::function<void(std::uint32_t)> keep, Done done);
  void keep_channel(std::uint64_t split, std::size_t channel, std::uint32_t buffer);
  void release(std::uint32_t buffer);
  void wait_for_completions();
  template <class Event, class Argument>
  void tell(Event event, const Argument& argument);

  const JobParts& parts_;
  Events events_;
  TaskTenant tenant_;
  bool opening_ = false;
  bool ready_ = false;  ///< `opened` has been called
  bool closing_ = false;
  Done closed_;
  std::array<std::uint32_t, 3> codelets_{};  ///< describe, map, reduce
  std::uint32_t parameters_ = 0;
  std::uint32_t description_ = 0;
  std::vector<std::uint32_t> segments_;                                        ///< buffers
  std::map<std::uint64_t, std::vector<std::optional<std::uint32_t>>> splits_;  ///< buffers of each
  std::vector<TaskTenant::TaskRecord> records_;
};

}  // namespace aios::mapreduce
