// The part of locking in that seccomp does.
#pragma once

#include "abi/runtime/sandbox/rules.hpp"

namespace aios::sandbox {

/// From now on the calling thread and all it starts make only the system calls that the rules need:
/// of what is listed in the implementation some are refused with an error number, since libraries
/// try them and do without; any other ends the process with SIGSYS, or fails where the rules have
/// devices. not_supported, with the reason.
Result<void> filter_syscalls(const Rules& rules);

}  // namespace aios::sandbox
