// A processor shares out the blocks of one task among its threads, and each thread takes blocks as
// soon as it is done with what it had: so those that take part end about together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace aios::scheduler {

/// How many of `slots` threads a task of so many blocks, all alike, keeps busy to its end: it takes
/// as many rounds as it must, with as few threads in each as that allows. At least one.
inline std::uint32_t width_of(std::uint64_t blocks, std::uint32_t slots) {
  if (blocks <= 1 || slots <= 1) return 1;
  const std::uint64_t rounds = (blocks + slots - 1) / slots;
  return static_cast<std::uint32_t>((blocks + rounds - 1) / rounds);
}

struct SharedOut {
  double end_ns;        ///< of all threads that take part
  std::size_t threads;  ///< the first so many, at least one
};

/// Of a task that alone keeps `width` threads busy for `takes_ns` each. `free_ns(i)` is when thread
/// i could begin, ascending; those that would begin after the end take no part.
template <class FreeNs>
SharedOut share_out(std::size_t width, double takes_ns, FreeNs free_ns) {
  double sum_ns = takes_ns * static_cast<double>(width);
  SharedOut out{0, 0};
  do {
    sum_ns += static_cast<double>(free_ns(out.threads++));
    out.end_ns = sum_ns / static_cast<double>(out.threads);
  } while (out.threads < width && out.end_ns > static_cast<double>(free_ns(out.threads)));
  return out;
}

}  // namespace aios::scheduler
