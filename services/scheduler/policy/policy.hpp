// The policies by the names that users give: `--policy`.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "abi/runtime/status.hpp"
#include "services/scheduler/policy/order.hpp"
#include "services/scheduler/policy/placement.hpp"

namespace aios::scheduler {

struct Policy {
  std::unique_ptr<Order> order;
  std::unique_ptr<Placement> placement;
};

/// eager prio edf dmda heft learned. invalid_argument, naming them all.
Result<Policy> make_policy(std::string_view name);

}  // namespace aios::scheduler
