// A fixed number of threads that run work and report its end through a pollable descriptor.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "abi/runtime/fd.hpp"
#include "services/storage/background.hpp"

namespace aios::storage {

/// Work runs in any order on any of the threads. The destructor lets what was submitted finish.
class WorkerThreads {
 public:
  /// io_error when the threads or the eventfd cannot be made.
  static Result<std::unique_ptr<WorkerThreads>> create(std::size_t thread_count);
  ~WorkerThreads();
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  /// Runs `work` on a thread; `then` runs inside a later `poll` of the submitting thread.
  void submit(std::function<void()> work, std::function<void()> then);
  std::size_t poll();
  int poll_fd() const { return event_.get(); }

 private:
  struct Item {
    std::function<void()> work;
    std::function<void()> then;
  };
  WorkerThreads() = default;
  void run();

  Fd event_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> waiting_;                  // guarded by mutex_
  std::vector<std::function<void()>> ended_;  // guarded by mutex_
  bool stopping_ = false;                     // guarded by mutex_
  std::vector<std::thread> threads_;
};

/// The Background of the running server.
class BackgroundThread : public Background {
 public:
  static Result<std::unique_ptr<BackgroundThread>> create();
  void start(std::function<void()> work) override;
  bool finished() override;
  int poll_fd() const override { return threads_->poll_fd(); }

 private:
  explicit BackgroundThread(std::unique_ptr<WorkerThreads> threads)
      : threads_(std::move(threads)) {}
  std::unique_ptr<WorkerThreads> threads_;
  bool ended_ = false;
};

}  // namespace aios::storage
