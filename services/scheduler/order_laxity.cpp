#include <algorithm>

#include "services/scheduler/order.hpp"

namespace aios::scheduler {
namespace {

/// Later than every deadline that makes sense (146 years), and far from overflow.
constexpr std::int64_t far_future_ns = std::int64_t{1} << 62;

class LaxityOrder final : public Order {
 public:
  Rank rank(const OrderFacts& task) const override {
    constexpr std::uint64_t most = far_future_ns;
    const auto deadline = static_cast<std::int64_t>(std::min(task.deadline_ns, most));
    const auto needed = static_cast<std::int64_t>(std::min(task.upward_rank_ns, most));
    return {-static_cast<std::int64_t>(task.priority), deadline - needed, task.number};
  }
};

}  // namespace

std::unique_ptr<Order> make_laxity_order() {
  return std::make_unique<LaxityOrder>();
}

}  // namespace aios::scheduler
