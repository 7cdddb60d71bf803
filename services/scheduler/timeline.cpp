#include "services/scheduler/timeline.hpp"

#include <algorithm>
#include <functional>

namespace aios::scheduler {

void Timeline::started(std::uint32_t key, std::uint64_t now_ns, std::uint64_t end_ns) {
  running_.push_back({key, std::max(now_ns, end_ns)});
}

void Timeline::left(std::uint32_t key) {
  const auto at = std::ranges::find(running_, key, &Running::key);
  if (at == running_.end()) return;
  *at = running_.back();
  running_.pop_back();
}

void Timeline::begin_plan(std::uint64_t now_ns) {
  plan_.clear();
  for (const Running& r : running_) plan_.push_back(expected_ns(r, now_ns));
  // More may run than there are slots; a slot is free when the last of those in it is done.
  if (plan_.size() > slots_) {
    std::ranges::nth_element(plan_, plan_.begin() + slots_, std::greater{});
    plan_.resize(slots_);
  }
  plan_.resize(std::max(slots_, 1u), now_ns);
  std::ranges::make_heap(plan_, std::greater{});
}

void Timeline::plan(std::uint64_t duration_ns) {
  std::ranges::pop_heap(plan_, std::greater{});
  plan_.back() += duration_ns;
  std::ranges::push_heap(plan_, std::greater{});
}

std::uint64_t Timeline::next_end_ns(std::uint64_t now_ns) const {
  std::uint64_t next = ~std::uint64_t{0};
  for (const Running& r : running_) next = std::min(next, expected_ns(r, now_ns));
  return next;
}

}  // namespace aios::scheduler
