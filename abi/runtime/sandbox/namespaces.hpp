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
/// Nobody in particular: the user of root's own work and of most servers, and everybody's group.
inline constexpr uid_t unprivileged_id = 65534;

/// By the parent, for a child that waits: uid 0 inside is `user` outside, if the parent is root and
/// may do so; otherwise both ids are the parent's own. Fails where the host forbids namespaces.
Result<void> map_ids(pid_t child, uid_t user);

/// By the child, when its ids are mapped: becomes uid and gid 0 of its namespace, without other
/// groups. Async-signal-safe; false, with errno, when Linux refuses.
bool become_mapped_root();
/// By a child of root without namespaces: becomes this user, without any group of the host's. In a
/// container without `unprivileged_id` that one is root itself.
bool become_user(uid_t user);

}  // namespace aios::sandbox
