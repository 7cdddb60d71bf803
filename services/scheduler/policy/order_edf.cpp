#include <algorithm>

#include "services/scheduler/policy/order.hpp"

namespace aios::scheduler {
namespace {

class EdfOrder final : public Order {
 public:
  Rank rank(const OrderFacts& task) const override {
    constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
    return {static_cast<std::int64_t>(std::min(task.deadline_ns, most)), not_due,
            -static_cast<std::int64_t>(task.priority), task.number};
  }
};

}  // namespace

std::unique_ptr<Order> make_edf_order() {
  return std::make_unique<EdfOrder>();
}

}  // namespace aios::scheduler
