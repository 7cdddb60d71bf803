// What Linux has counted of a process, by /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace aios::ctl {

struct ProcessUse {
  std::uint64_t cpu_ns = 0;        ///< on all cores; with children that it has waited for
  std::uint64_t memory_bytes = 0;  ///< resident, without what it shares with others or a file
};

/// Nothing of one that is gone.
ProcessUse use_of_process(pid_t pid);

/// In the text of /proc/PID/stat, whatever the process is called; 0 when it says none.
std::uint64_t cpu_ns_in(const std::string& stat, std::uint64_t ticks_per_second);

}  // namespace aios::ctl
