// Tasks for a job that the client itself leads: a tenant of its own at the scheduler and calls that
// block, while whoever started the job is asked whether to go on. One thread.
//
// The scheduler places each task on any device that its module has code for. When it dies every
// call answers peer_closed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "abi/lib/task_client.hpp"
#include "abi/runtime/kernel.hpp"
#include "abi/runtime/status.hpp"

namespace aios::mapreduce_client {

/// Whether what a task failed with is about what it was given, not about AIOS or the machine.
bool is_about_input(Code failure);

class DeviceTasks {
 public:
  using Record = proto::scheduler::TaskRecord;
  using Completion = proto::scheduler::Completion;

  /// `keep_going` is asked several times a second during every wait; once it says false the call
  /// that waits answers cancelled. `label` begins what listings call the codelets; empty: they are
  /// called as their functions.
  static Result<std::unique_ptr<DeviceTasks>> open(Kernel& kernel, std::string label,
                                                   std::function<bool()> keep_going);
  DeviceTasks(const DeviceTasks&) = delete;

  /// The numbers of these codelets of a module.
  Result<std::vector<std::uint32_t>> codelets(std::span<const std::byte> module,
                                              const std::vector<std::string>& functions);
  /// `cheaper` does the same as `codelet`, sooner and not as well.
  Result<void> set_cheaper(std::uint32_t codelet, std::uint32_t cheaper);
  struct Range {
    std::uint64_t offset;
    std::uint64_t length;
    bool writable;
  };
  /// Parts of a region as buffers, all of them at once.
  Result<std::vector<std::uint32_t>> memory(const Region& region, const std::vector<Range>& ranges);
  /// A channel of lent files, whose handle is closed here.
  Result<std::uint32_t> files(Handle channel);
  Result<void> release(std::span<const std::uint32_t> buffers);

  /// Gives the task a tag; it is sent by the next `submit`.
  std::uint64_t add(Record task);
  Result<void> submit(std::uint32_t graph = 0);
  /// A graph that is to be done by then, for one `submit`; its tasks start once it is admitted.
  Result<std::uint32_t> open_graph(std::uint64_t due_ns);
  /// `refusal_of` says what the answer means.
  Result<TaskTenant::Admitted> admit(std::uint32_t graph);
  /// Waits for finished tasks: at least `least`, or all that there are.
  Result<std::vector<Completion>> completions(std::uint32_t least = 1);
  /// As completions() until every task has finished; the error of the first that failed.
  Result<void> finish_all();
  /// Why a task failed.
  Status failure(const Completion& failed);

  std::uint64_t tasks() const { return last_tag_; }
  std::uint64_t attempts() const { return attempts_; }

 private:
  DeviceTasks(std::string label, std::function<bool()> keep_going)
      : label_(std::move(label)), keep_going_(std::move(keep_going)) {}
  template <class T>
  using Answers = std::vector<std::optional<Result<T>>>;
  /// Starts calls 0 to count - 1 by `start(number, done)` and waits for all.
  template <class T, class Start>
  Result<Answers<T>> call_all(std::size_t count, Start&& start);
  template <class T, class Start>
  Result<T> call(Start&& start);

  std::string label_;
  std::function<bool()> keep_going_;
  std::unique_ptr<TaskTenant> tenant_;  // outlives the link, whose end still ends calls
  std::unique_ptr<TaskLink> link_;
  std::vector<Record> added_;
  std::uint64_t unfinished_ = 0;
  std::uint64_t last_tag_ = 0;
  std::uint64_t attempts_ = 0;
};

}  // namespace aios::mapreduce_client
