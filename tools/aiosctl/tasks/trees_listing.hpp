// aiosctl models --trees: where trees predict better, where not, and why.
#pragma once

#include "abi/runtime/status.hpp"
#include "tools/aiosctl/commands.hpp"

namespace aios::ctl {

/// Prints the table or the JSON; an exit code.
Result<int> show_trees(const Session& session);

}  // namespace aios::ctl
