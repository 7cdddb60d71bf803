// The part of locking in that exchanges the root folder.
#pragma once

#include "abi/runtime/sandbox/rules.hpp"

namespace aios::sandbox {

/// A tmpfs with the folders that the rules name, and nothing else mounted, becomes the root. Only
/// for the first process of a pid namespace, which has a mount namespace of its own. The error says
/// what the host refused, and nothing has changed then; internal: it was left half way.
Result<void> enter_root(const Rules& rules);

}  // namespace aios::sandbox
