#include "abi/runtime/sleep.hpp"

#include <sched.h>

#include <algorithm>

namespace aios {

void yield_core() {
  ::sched_yield();
}

std::uint64_t this_core() {
  return static_cast<std::uint64_t>(::sched_getcpu()) + 1;
}

void show_core(proto::StatusPage& own) {
  const std::uint64_t core = this_core();
  // Peers read this line with each message: it is written when it changes only.
  if (own.core.load(std::memory_order_relaxed) != core)
    own.core.store(core, std::memory_order_relaxed);
}

void renew_rings(proto::StatusPage& own) {
  own.sleep.fetch_add(proto::sleep_begins - proto::sleep_ends, std::memory_order_relaxed);
  // As a sleeper's: a peer that still saw the old count has published what is looked at next.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void Rest::begin() {
  left_ = next_;
  next_ = std::min(next_ * 2, longest_);
}

void YieldPolicy::hit() {
  misses_ = 0;
  if (++hits_ % hits_to_forget == 0) rest_.forget();
}

void YieldPolicy::missed() {
  if (++misses_ < misses_to_stop) return;
  // One miss of the wait that ends the rest begins the next one.
  misses_ = misses_to_stop - 1;
  rest_.begin();
}

std::uint64_t SpinPolicy::budget_ns() {
  return allowed_ && rest_.over() ? budget_ns_ : 0;
}

void SpinPolicy::hit() {
  budget_ns_ = longest_ns;
  misses_ = 0;
  if (++hits_ % hits_to_forget != 0) return;
  rest_.forget();
  yield_core();
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
  rest_.begin();
}

}  // namespace aios
