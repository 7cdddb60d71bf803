// Time as everything in AIOS counts it: nanoseconds of CLOCK_MONOTONIC.
#pragma once

#include <cstdint>
#include <ctime>
#include <limits>

namespace aios {

inline constexpr std::uint64_t ns_per_us = 1'000;
inline constexpr std::uint64_t ns_per_ms = 1'000'000;
inline constexpr std::uint64_t ns_per_s = 1'000'000'000;

inline std::uint64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * ns_per_s + static_cast<std::uint64_t>(t.tv_nsec);
}

/// The moment at which a wait ends, whatever happens.
struct Deadline {
  std::uint64_t at_ns;

  static Deadline after(std::uint64_t duration_ns) {
    const std::uint64_t now = now_ns();
    const std::uint64_t left = std::numeric_limits<std::uint64_t>::max() - now;
    return {now + (duration_ns < left ? duration_ns : left)};
  }
  static constexpr Deadline never() { return {std::numeric_limits<std::uint64_t>::max()}; }

  bool is_never() const { return at_ns == never().at_ns; }
  bool passed() const { return !is_never() && now_ns() >= at_ns; }
  /// For poll and epoll_wait: rounded up, -1 for never, at most an hour.
  int poll_timeout_ms() const {
    if (is_never()) return -1;
    const std::uint64_t now = now_ns();
    if (now >= at_ns) return 0;
    const std::uint64_t ms = (at_ns - now + ns_per_ms - 1) / ns_per_ms;
    return static_cast<int>(ms < 3'600'000 ? ms : 3'600'000);
  }
};

}  // namespace aios
