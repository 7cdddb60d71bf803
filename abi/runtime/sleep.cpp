#include "abi/runtime/sleep.hpp"

#include <sched.h>

#include <algorithm>

namespace aios {

std::uint64_t SpinPolicy::budget_ns() {
  if (!allowed_) return 0;
  if (resting_ != 0) {
    --resting_;
    return 0;
  }
  return budget_ns_;
}

void SpinPolicy::hit() {
  budget_ns_ = longest_ns;
  misses_ = 0;
  if (++hits_ % hits_to_forget != 0) return;
  next_rest_ = shortest_rest;
  ::sched_yield();
}

void SpinPolicy::missed() {
  if (++misses_ >= misses_to_stop)
    rest();
  else
    budget_ns_ /= 2;
}

void SpinPolicy::rest() {
  // One miss of the look that ends the rest begins the next one.
  misses_ = misses_to_stop;
  budget_ns_ = longest_ns;
  resting_ = next_rest_;
  next_rest_ = std::min(next_rest_ * 2, longest_rest);
}

}  // namespace aios
