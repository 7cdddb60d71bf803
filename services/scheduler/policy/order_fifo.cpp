#include "services/scheduler/policy/order.hpp"

namespace aios::scheduler {
namespace {

class FifoOrder final : public Order {
 public:
  Rank rank(const OrderFacts& task) const override { return {0, not_due, 0, task.number}; }
};

}  // namespace

std::unique_ptr<Order> make_fifo_order() {
  return std::make_unique<FifoOrder>();
}

}  // namespace aios::scheduler
