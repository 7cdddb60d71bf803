#include "tools/aiosctl/watch/process_use.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "abi/runtime/time.hpp"
#include "tools/aiosctl/instances/program_signals.hpp"

namespace aios::ctl {

ProcessUse times_in(const std::string& stat, std::uint64_t ticks_per_second) {
  const std::size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return {};
  // proc(5): behind the name comes field 3; utime and stime are 14 and 15, starttime is 22.
  std::istringstream text(stat.substr(name_end + 1));
  std::string field;
  std::uint64_t ticks[23] = {};
  text >> field;  // the state, a letter
  for (int number = 4; number <= 22; ++number) {
    if (!(text >> field)) return {};
    ticks[number] = std::strtoull(field.c_str(), nullptr, 10);
  }
  const std::uint64_t ns = ns_per_s / ticks_per_second;
  return {.started_ns = ticks[22] * ns, .cpu_ns = (ticks[14] + ticks[15]) * ns};
}

ProcessUse use_of_process(pid_t pid) {
  ProcessUse use = times_in(stat_of(pid), static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)));
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  std::uint64_t shared = 0;
  if (!(statm >> total >> resident >> shared)) return use;
  const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  use.resident_bytes = resident * page_bytes;
  use.memory_bytes = (resident - std::min(shared, resident)) * page_bytes;
  return use;
}

}  // namespace aios::ctl
