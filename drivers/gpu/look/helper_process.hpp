// Children of the GPU driver's that do what it must not do itself, since it loads no vendor's
// library and will have locked itself in: they are started before that, and keep the host's files.
#pragma once

#include <functional>
#include <string_view>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"

namespace aios::gpu {

/// Starts one that is called `name` and runs `serve`, which talks on descriptor 0 and ends when
/// that is closed; returns the other end of it, which does not block. It ends with this process.
/// Before this process locks itself in and has threads.
Result<Fd> start_helper(const char* name, const std::function<void()>& serve);

// ---- for the helpers themselves, and their children --------------------------------------------

/// Ends with its parent, and leaves nothing of it open but `keep`, which becomes descriptor 0.
void become_child(int keep);
/// Makes /proc know the threads of this process by the numbers that it knows them by, which the
/// host's does not in a pid namespace: vendors' libraries name theirs there, or do not start. Only
/// in a mount namespace of the helpers' own does it change anything.
void find_own_threads();
/// All of it, or as much as the reader takes.
void write_all(int fd, std::string_view text);

}  // namespace aios::gpu
