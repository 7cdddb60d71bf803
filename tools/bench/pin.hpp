// The cores that this process may use, and threads that stay where they are put.
#pragma once

#include <sched.h>

#include <algorithm>
#include <cstdint>

namespace aios::bench {

inline std::uint32_t usable_cores() {
  cpu_set_t all;
  CPU_ZERO(&all);
  ::sched_getaffinity(0, sizeof all, &all);
  return static_cast<std::uint32_t>(std::max(CPU_COUNT(&all), 1));
}

/// The calling thread to the n-th core of those that it may use.
inline void pin_to(std::uint32_t n) {
  cpu_set_t all;
  CPU_ZERO(&all);
  ::sched_getaffinity(0, sizeof all, &all);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &all) || n-- != 0) continue;
    CPU_ZERO(&all);
    CPU_SET(cpu, &all);
    ::sched_setaffinity(0, sizeof all, &all);
    return;
  }
}

}  // namespace aios::bench
