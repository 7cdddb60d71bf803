#include <algorithm>

#include "services/scheduler/policy/order.hpp"

namespace aios::scheduler {
namespace {

/// More than every time that makes sense (146 years), and far from overflow.
constexpr std::uint64_t most_ns = std::uint64_t{1} << 62;

class LaxityOrder final : public Order {
 public:
  Rank rank(const OrderFacts& task) const override {
    const auto needed = static_cast<std::int64_t>(std::min(task.upward_rank_ns, most_ns));
    const bool has_deadline = task.deadline_ns != no_deadline;
    const auto deadline = static_cast<std::int64_t>(std::min(task.deadline_ns, most_ns));
    return {-static_cast<std::int64_t>(task.priority), has_deadline ? deadline - needed : not_due,
            -needed, task.number};
  }
  bool heeds_deadlines() const override { return true; }
};

}  // namespace

std::unique_ptr<Order> make_laxity_order() {
  return std::make_unique<LaxityOrder>();
}

}  // namespace aios::scheduler
