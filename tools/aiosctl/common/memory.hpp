// Regions as large as what a user names.
#pragma once

#include <string>

#include "abi/runtime/kernel.hpp"

namespace aios::ctl {

/// A region called `label`, for `what` the user named. Where there is none for it that is told of
/// `what`, with how much it would take.
Result<Region> memory_for(Kernel& kernel, const std::string& what, std::uint64_t bytes,
                          std::string_view label);

}  // namespace aios::ctl
