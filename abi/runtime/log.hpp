// Log lines of servers: one line of text, to standard error, which the kernel points at the
// process's log file. For operators; one line per notable event.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

namespace aios {

/// How many lines a process may write: what others do to it is logged, and they could otherwise
/// fill the disk. Knows no clock: it is told.
class LogLimit {
 public:
  static constexpr std::uint64_t burst = 1000;
  static constexpr std::uint64_t lines_per_s = 10;

  /// Counts the line, as written or as left out.
  bool allows(std::uint64_t now_ns);
  /// How many were left out since this was last asked.
  std::uint64_t take_left_out() { return std::exchange(left_out_, 0); }

 private:
  std::uint64_t left_ = burst;
  std::uint64_t last_ns_ = 0;
  std::uint64_t left_out_ = 0;
};

/// Writes "seconds.millis text\n" in one write. Seconds count from the start of the machine.
void log_line(std::string_view text);
/// From now on log lines go nowhere: for a library, whose host's standard error is not its own.
void silence_log();

}  // namespace aios
