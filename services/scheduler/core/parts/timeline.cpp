#include "services/scheduler/core/parts/timeline.hpp"

#include <algorithm>
#include <functional>
#include <utility>

#include "services/scheduler/core/parts/limits.hpp"

namespace aios::scheduler {

void Timeline::started(std::uint32_t key, std::uint64_t now_ns, std::uint64_t end_ns,
                       std::uint32_t width) {
  running_.push_back({key, std::max(now_ns, end_ns), width});
}

void Timeline::left(std::uint32_t key) {
  const auto at = std::ranges::find(running_, key, &Running::key);
  if (at == running_.end()) return;
  *at = running_.back();
  running_.pop_back();
}

void Timeline::begin_plan(std::uint64_t now_ns) {
  plan_.clear();
  is_sorted_ = false;
  for (const Running& r : running_)
    for (std::uint32_t i = 0; i < r.width; ++i) plan_.push_back(expected_ns(r, now_ns));
  // More may run than there are slots; a slot is free when the last of those in it is done.
  if (plan_.size() > slots_) {
    std::ranges::nth_element(plan_, plan_.begin() + slots_, std::greater{});
    plan_.resize(slots_);
  }
  plan_.resize(std::max(slots_, 1u), now_ns);
  std::ranges::make_heap(plan_, std::greater{});
}

/// What is sorted is a heap, too.
SharedOut Timeline::share_out_plan(std::uint32_t width, double duration_ns) {
  if (!std::exchange(is_sorted_, true)) std::ranges::sort(plan_);
  const std::uint64_t first_ns = plan_.front();
  SharedOut out = share_out(std::min<std::size_t>(width, plan_.size()), duration_ns,
                            [&](std::size_t i) { return plan_[i] - first_ns; });
  out.end_ns = std::min(out.end_ns + static_cast<double>(first_ns), far_ns);
  return out;
}

std::uint64_t Timeline::free_ns(std::uint32_t width, double duration_ns) {
  if (width <= 1) return free_ns();
  const double takes_ns = std::min(duration_ns, far_ns);
  const double free_ns = share_out_plan(width, takes_ns).end_ns - takes_ns;
  return std::max(plan_.front(), static_cast<std::uint64_t>(std::max(free_ns, 0.0)));
}

void Timeline::plan(std::uint64_t duration_ns, std::uint32_t width) {
  if (width > 1) {
    const SharedOut out = share_out_plan(width, static_cast<double>(duration_ns));
    const auto end_ns = static_cast<std::uint64_t>(out.end_ns);
    const auto others = plan_.begin() + static_cast<std::ptrdiff_t>(out.threads);
    std::fill(plan_.begin(), others, end_ns);
    std::rotate(plan_.begin(), others, std::lower_bound(others, plan_.end(), end_ns));
    return;
  }
  is_sorted_ = false;
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
