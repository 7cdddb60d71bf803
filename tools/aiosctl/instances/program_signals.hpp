// Stopping programs that have attached, and letting them go on. The kernel signals only what it has
// started; others' processes are a matter between their user and Linux (decision 0360).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "abi/proto/kernel.hpp"
#include "abi/runtime/fd.hpp"
#include "tools/aiosctl/common/operator.hpp"

namespace aios::ctl {

/// Sends SIGSTOP or SIGCONT to the program and to all that it has started, and that those have; how
/// many processes that was. denied: one is another user's, or this process is one of them.
/// not_found: it has ended. not_supported: its pid is of another namespace. When not all can be
/// stopped none stays so that was not before; when not all can be continued the others are.
Result<std::size_t> signal_program(Operator& attached, const proto::kernel::ProcessRecord& program,
                                   int number);

/// The same to `root` and all below it; `process` is a pidfd of it.
Result<std::size_t> signal_tree(pid_t root, Fd process, int number);

/// not_supported: the pids of the instance are not those by which this process sees processes.
Result<void> check_namespace(Kernel& kernel);

/// All processes by their parents.
std::multimap<pid_t, pid_t> children_by_parent();

/// `root` and all below it, a parent before its children. `children`: as above.
std::vector<pid_t> tree_below(pid_t root, const std::multimap<pid_t, pid_t>& children);

/// The text of /proc/PID/stat; empty when there is no such process.
std::string stat_of(pid_t pid);
/// The parent in the text of /proc/PID/stat, whatever the process is called; 0 when it says none.
pid_t parent_in(const std::string& stat);
/// The state there, such as T when a signal has stopped the process; 0 when it says none.
char state_in(const std::string& stat);
/// The state of a process: Z or X when all of its threads have ended, 0 when there is none.
char state_of_process(pid_t pid);

}  // namespace aios::ctl
