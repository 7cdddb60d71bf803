// Several short tasks that came in one message and run one after the other.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
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

  /// On one worker: until one fails.
  void run();

  // Valid once it has run.
  std::uint64_t number() const { return number_; }
  /// Without the peak of memory.
  const Message::Reply& reply() const { return reply_; }
  const std::optional<Status>& failure() const { return failure_; }

 private:
  RunBatch() = default;
  Result<> run_one(Work& work, std::uint64_t& last_ns);

  std::uint64_t number_ = 0;
  std::vector<std::shared_ptr<Work>> works_;
  std::optional<Status> unprepared_;  ///< why there is no work for the task after the last one
  Message::Reply reply_{};
  std::optional<Status> failure_;
};

/// Why batches ended early, until somebody asks.
class BatchFailures {
 public:
  static constexpr std::size_t most = 64;
  void add(std::uint64_t number, std::string why);
  /// not_found
  Result<std::string> take(std::uint64_t number);

 private:
  std::deque<std::pair<std::uint64_t, std::string>> failures_;
};

}  // namespace aios::device
