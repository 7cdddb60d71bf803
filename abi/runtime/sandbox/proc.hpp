// The proc file system of the caller's own pid namespace, in which alone its threads have the names
// that it knows them by.
#pragma once

#include <string>

#include "abi/runtime/status.hpp"

namespace aios::sandbox {

/// Mounts it at `folder`. Linux refuses that in user namespaces where the /proc that there is is
/// partly covered, as in containers.
Result<void> mount_proc(const std::string& folder);

/// Covers the `task` folder of a process with one in which threads have names to write and nothing
/// else: those of this pid namespace from the calling one on, some thousands. For where mount_proc
/// is refused.
Result<void> cover_tasks(const std::string& folder);

}  // namespace aios::sandbox
