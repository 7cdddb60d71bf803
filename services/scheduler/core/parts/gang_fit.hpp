// Which members of a gang go to which devices, so that all of them have a slot.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "services/scheduler/costs/costs.hpp"

namespace aios::scheduler {

/// `choices[i]` are the devices that member i may go to, the best first; `room[d]` is how many
/// device d takes. Returns the device of each, or nothing when they do not all fit (a matching by
/// augmenting paths: Kuhn 1955). A member gets its best device where none before it needs that.
std::optional<std::vector<DeviceId>> fit_gang(const std::vector<std::vector<DeviceId>>& choices,
                                              const std::vector<std::uint32_t>& room);

}  // namespace aios::scheduler
