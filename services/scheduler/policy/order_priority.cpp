#include "services/scheduler/policy/order.hpp"

namespace aios::scheduler {
namespace {

class PriorityOrder final : public Order {
 public:
  Rank rank(const OrderFacts& task) const override {
    return {-static_cast<std::int64_t>(task.priority), not_due, 0, task.number};
  }
};

}  // namespace

std::unique_ptr<Order> make_priority_order() {
  return std::make_unique<PriorityOrder>();
}

}  // namespace aios::scheduler
