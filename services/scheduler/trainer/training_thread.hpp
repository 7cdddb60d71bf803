// The thread that trains: of the class that runs only when nobody else wants to, so that it takes
// nothing from tasks. The server's loop goes on meanwhile.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/fd.hpp"
#include "services/scheduler/costs/trees_record.hpp"
#include "services/scheduler/trainer/booster.hpp"

namespace aios::scheduler::trainer {

class TrainingThread {
 public:
  struct Outcome {
    std::vector<TrainedKey> keys;
    std::uint64_t cpu_ns;
  };
  /// `ended` runs in the loop, once after each begin.
  static Result<std::unique_ptr<TrainingThread>> create(EventLoop& loop,
                                                        std::function<void(Outcome)> ended);
  TrainingThread(const TrainingThread&) = delete;
  /// Stops what is under way, and waits for it to end: a round of one small model.
  ~TrainingThread();

  bool is_busy() const { return thread_.joinable(); }
  /// Precondition: not busy. What is not trained at `until` is told to be out of time. no_memory:
  /// Linux gives no thread.
  Result<void> begin(std::vector<KeyRuns> keys, Booster& booster, Deadline until);
  /// What is under way ends soon, with `ended`.
  void stop() { stop_ = true; }

 private:
  TrainingThread(EventLoop& loop, std::function<void(Outcome)> ended)
      : loop_(loop), ended_(std::move(ended)) {}
  void run(const std::vector<KeyRuns>& keys, Booster& booster, Deadline until);
  void finish();

  EventLoop& loop_;
  std::function<void(Outcome)> ended_;
  Fd event_;
  std::atomic<bool> stop_ = false;
  Outcome outcome_{};  ///< the thread's until it wrote to event_
  std::thread thread_;
};

}  // namespace aios::scheduler::trainer
