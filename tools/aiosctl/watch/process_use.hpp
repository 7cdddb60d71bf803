// What Linux has counted of a process, by /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace aios::ctl {

struct ProcessUse {
  std::uint64_t started_ns = 0;  ///< after the machine's start; tells apart who had the pid
  std::uint64_t cpu_ns = 0;      ///< on all cores
  std::uint64_t resident_bytes = 0;
  std::uint64_t memory_bytes = 0;  ///< of these, without what it shares with others or a file
};

/// Nothing of one that is gone.
ProcessUse use_of_process(pid_t pid);

/// The times in the text of /proc/PID/stat, whatever the process is called; 0 where it says none.
ProcessUse times_in(const std::string& stat, std::uint64_t ticks_per_second);

}  // namespace aios::ctl
