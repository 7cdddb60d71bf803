// Threads, each on a core of its own, that do something together and are timed together.
#pragma once

#include <sched.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "tools/bench/pin.hpp"

namespace aios::bench {

/// That this process may use.
inline unsigned cores() {
  cpu_set_t all;
  CPU_ZERO(&all);
  ::sched_getaffinity(0, sizeof all, &all);
  return static_cast<unsigned>(CPU_COUNT(&all));
}

class Team {
 public:
  using Part = std::function<void(unsigned thread, unsigned threads)>;

  explicit Team(unsigned threads)
      : together_(static_cast<std::ptrdiff_t>(threads) + 1), begins_(threads), ends_(threads) {
    for (unsigned t = 0; t < threads; ++t) threads_.emplace_back([this, t] { serve(t); });
  }
  Team(const Team&) = delete;
  ~Team() {
    part_ = nullptr;
    together_.arrive_and_wait();
  }

  /// Nanoseconds from the first thread's begin to the last one's end.
  double time(const Part& part) {
    part_ = &part;
    together_.arrive_and_wait();
    together_.arrive_and_wait();
    return std::chrono::duration<double, std::nano>(std::ranges::max(ends_) -
                                                    std::ranges::min(begins_))
        .count();
  }

 private:
  using Clock = std::chrono::steady_clock;

  void serve(unsigned t) {
    pin_to(t);
    for (;;) {
      together_.arrive_and_wait();
      const Part* const part = part_;
      if (part == nullptr) return;
      begins_[t] = Clock::now();
      (*part)(t, static_cast<unsigned>(begins_.size()));
      ends_[t] = Clock::now();
      together_.arrive_and_wait();
    }
  }

  std::barrier<> together_;
  const Part* part_ = nullptr;
  std::vector<Clock::time_point> begins_, ends_;
  std::vector<std::jthread> threads_;  // last: they use what is above
};

}  // namespace aios::bench
