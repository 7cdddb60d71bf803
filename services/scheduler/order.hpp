// In which order ready tasks start. A policy is a pure ranking: what is compared, not how it is
// stored. Ranks are compared between tasks of one tenant in full; between tenants of one user only
// by `urgency`, equal ones taking turns; between users never (they always take turns).
#pragma once

#include <compare>
#include <cstdint>
#include <memory>

namespace aios::scheduler {

/// Smaller runs first.
struct Rank {
  std::int64_t urgency;
  std::uint64_t tie;
  auto operator<=>(const Rank&) const = default;
};

/// What an order may look at.
struct OrderFacts {
  std::uint64_t number;  ///< grows with every task submitted
  std::int32_t priority;
};

class Order {
 public:
  virtual ~Order() = default;
  /// Constant from the moment the task is ready until it starts.
  virtual Rank rank(const OrderFacts& task) const = 0;
};

/// Higher priority first, equal ones in order of submission.
std::unique_ptr<Order> make_priority_order();

}  // namespace aios::scheduler
