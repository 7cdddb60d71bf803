// The side of an executor that is told when jobs have finished.
#pragma once

#include <functional>
#include <memory>
#include <semaphore>
#include <vector>

#include "drivers/device/executor.hpp"

namespace aios::device {

class ExecutorOwner {
 public:
  /// Blocks until `count` jobs in all have finished.
  std::vector<Executor::Finished> wait_for(std::size_t count) {
    std::vector<Executor::Finished> all;
    while (all.size() < count) {
      bell_.acquire();
      for (auto& finished : executor->take_finished()) all.push_back(std::move(finished));
    }
    return all;
  }

 protected:
  ~ExecutorOwner() = default;
  std::function<void()> bell() {
    return [this] { bell_.release(); };
  }

 private:
  std::counting_semaphore<> bell_{0};

 public:
  std::unique_ptr<Executor> executor;  // last: its threads ring the bell
};

}  // namespace aios::device
