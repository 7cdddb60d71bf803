// Several short tasks that came in one message and run one after the other.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "abi/proto/device.hpp"
#include "abi/runtime/status.hpp"
#include "drivers/device/backend.hpp"

namespace aios::device {

class RunBatch {
 public:
  using Message = proto::context::RunBatch;

  /// Unpacks and prepares them. A task that cannot be prepared ends the batch before it.
  /// invalid_argument: the message makes no sense.
  static Result<std::shared_ptr<RunBatch>> create(const Message::Request& request, Backend& backend,
                                                  const BufferTable& buffers);

  /// On one worker: one after the other until one fails, which is then also what is returned.
  Result<> run();
  /// The same on a device with a queue of its own, in two steps: all are handed to it, until one
  /// cannot be; and all that were are waited for, also behind one that failed.
  void begin_all();
  Result<> end_all();
  /// Whether has_ended can tell, and once all have begun whether end_all would not have to wait.
  bool tells_end() const;
  bool has_ended() const;
  /// Once all have begun: whether one of them could not, so that end_all will fail.
  bool will_fail() const { return will_fail_; }

  // Valid once it has run.
  std::uint64_t number() const { return number_; }
  /// Without the peak of memory.
  const Message::Reply& reply() const { return reply_; }
  const std::optional<Status>& failure() const { return failure_; }

 private:
  RunBatch() = default;
  static Result<> run_blocks(Work& work);
  void note(const Work& work, const DeviceTimes& measured);
  void fail(Status why);
  Result<> conclude();

  std::uint64_t number_ = 0;
  std::vector<std::shared_ptr<Work>> works_;
  /// Why there is no work for the task after the last one, or the device was not handed it.
  std::optional<Status> unprepared_;
  bool will_fail_ = false;
  Message::Reply reply_{};
  std::uint64_t ahead_ns_ = 0;
  std::optional<Status> failure_;
};

/// The batches of one client by their numbers: which are on their way, which ended early, and why,
/// until somebody asks.
class BatchLog {
 public:
  static constexpr std::size_t most_reasons = 64;

  /// What a batch with this number waits for.
  struct Before {
    std::vector<std::uint64_t> jobs;  ///< of the executor
    bool cancelled = false;           ///< one of them ended early: it must not begin
  };
  /// invalid_argument: the numbers make no sense.
  Result<Before> before(const RunBatch::Message::Request& request) const;
  void begun(std::uint64_t number, std::uint64_t job);
  void ended(std::uint64_t number);
  /// Or was not begun; `why`, if there is anything to tell.
  void ended_early(std::uint64_t number, std::string why);
  /// Was not taken, and may come again; until then nothing begins that waits for it.
  void refused(std::uint64_t number);
  /// not_found
  Result<std::string> take_reason(std::uint64_t number);

 private:
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, std::uint64_t> jobs_;  // by number, of those on their way
  std::set<std::uint64_t> early_;                // of the last max_distance
  std::deque<std::pair<std::uint64_t, std::string>> reasons_;
};

}  // namespace aios::device
