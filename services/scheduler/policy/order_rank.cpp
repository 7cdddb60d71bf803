#include <algorithm>

#include "services/scheduler/policy/order.hpp"

namespace aios::scheduler {
namespace {

class RankOrder final : public Order {
 public:
  Rank rank(const OrderFacts& task) const override {
    constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
    return {-static_cast<std::int64_t>(task.priority), not_due,
            -static_cast<std::int64_t>(std::min(task.upward_rank_ns, most)), task.number};
  }
};

}  // namespace

std::unique_ptr<Order> make_rank_order() {
  return std::make_unique<RankOrder>();
}

}  // namespace aios::scheduler
