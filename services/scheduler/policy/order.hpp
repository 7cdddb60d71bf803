// In which order ready tasks start. A policy is a pure ranking: what is compared, not how it is
// stored. Ranks are compared between tasks of one tenant in full; between tenants of one user only
// by `urgency` and `due`, equal ones by the time they have had; between users never (always by
// that).
#pragma once

#include <compare>
#include <cstdint>
#include <limits>
#include <memory>

namespace aios::scheduler {

inline constexpr std::uint64_t no_deadline = std::numeric_limits<std::uint64_t>::max();
inline constexpr std::int64_t not_due = std::numeric_limits<std::int64_t>::max();

/// Smaller runs first.
struct Rank {
  std::int64_t urgency;
  std::int64_t due = not_due;  ///< the moment by which it must start; deadlines go before the rest
  std::int64_t within = 0;     ///< among tasks of one tenant that are equally urgent
  std::uint64_t tie = 0;
  auto operator<=>(const Rank&) const = default;
};

/// What an order may look at.
struct OrderFacts {
  std::uint64_t number = 0;  ///< grows with every task submitted
  std::int32_t priority = 0;
  std::uint64_t deadline_ns = no_deadline;  ///< absolute, of the task or of its graph
  /// From its start to the end of all that depends on it, on its critical path, by the mean over
  /// the devices that could run it (ranks.hpp). 0 where costs are not known.
  std::uint64_t upward_rank_ns = 0;
};

class Order {
 public:
  virtual ~Order() = default;
  /// Constant from the moment the task is ready until it starts.
  virtual Rank rank(const OrderFacts& task) const = 0;
  /// Whether what is due comes first, so that a deadline can be promised.
  virtual bool heeds_deadlines() const { return false; }
};

/// In order of submission.
std::unique_ptr<Order> make_fifo_order();
/// Higher priority first, equal ones in order of submission.
std::unique_ptr<Order> make_priority_order();
/// Earliest deadline first, then as by priority.
std::unique_ptr<Order> make_edf_order();
/// Higher priority first, among equal ones the longer way to the end (HEFT's upward rank).
std::unique_ptr<Order> make_rank_order();
/// Higher priority first, among equal ones who must start earliest to meet the deadline, also
/// between the tenants of a user; those without a deadline come last, the longer way to the end
/// first.
std::unique_ptr<Order> make_laxity_order();

}  // namespace aios::scheduler
