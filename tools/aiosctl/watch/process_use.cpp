#include "tools/aiosctl/watch/process_use.hpp"

#include <unistd.h>

#include <fstream>
#include <sstream>

#include "abi/runtime/time.hpp"
#include "tools/aiosctl/instances/program_signals.hpp"

namespace aios::ctl {

std::uint64_t cpu_ns_in(const std::string& stat, std::uint64_t ticks_per_second) {
  // proc(5): utime, stime, cutime and cstime are fields 14 to 17; the state, after the name, is 3.
  constexpr int fields_before = 11;
  constexpr int times = 4;
  const std::size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string skipped;
  for (int i = 0; i < fields_before; ++i) fields >> skipped;
  std::uint64_t ticks = 0;
  for (int i = 0; i < times; ++i) {
    std::uint64_t some = 0;
    if (!(fields >> some)) return 0;
    ticks += some;
  }
  return ticks * (ns_per_s / ticks_per_second);
}

ProcessUse use_of_process(pid_t pid) {
  ProcessUse use;
  use.cpu_ns = cpu_ns_in(stat_of(pid), static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)));
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  std::uint64_t shared = 0;
  if (statm >> total >> resident >> shared && resident > shared)
    use.memory_bytes = (resident - shared) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return use;
}

}  // namespace aios::ctl
