// Several calls are under way; what comes when all have ended.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

namespace aios::mapreduce {

/// Runs `done` when each callback that was taken has been called, once.
class Countdown {
 public:
  using Done = std::move_only_function<void()>;

  explicit Countdown(Done done) : state_(std::make_shared<State>(State{0, std::move(done)})) {}

  /// Take one before the first call, to be called after the last: else it may run too soon.
  Done one() {
    ++state_->left;
    return [state = state_] {
      if (--state->left == 0) std::exchange(state->done, {})();
    };
  }

 private:
  struct State {
    std::size_t left;
    Done done;
  };
  std::shared_ptr<State> state_;
};

}  // namespace aios::mapreduce
