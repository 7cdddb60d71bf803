// Namespaces for a child: what its parent does around the clone, and what the child does first.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <cstdint>

#include "abi/runtime/status.hpp"

namespace aios::sandbox {

/// For clone: user, pid, mount, network, ipc and uts namespaces.
inline constexpr std::uint64_t namespace_flags =
    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
/// Who a child is outside of its namespaces when its parent is root and it does not keep that user.
inline constexpr uid_t unprivileged_id = 65534;

/// By the parent, for a child that waits: maps uid and gid 0 inside to the parent's own outside, or
/// to `unprivileged_id` when the parent is root, may do so, and `keep_user` is false. Fails where
/// the host forbids namespaces.
Result<void> map_ids(pid_t child, bool keep_user);

/// By the child, when its ids are mapped: becomes uid and gid 0 of its namespace, without other
/// groups. Async-signal-safe; false, with errno, when Linux refuses.
bool become_mapped_root();

}  // namespace aios::sandbox
