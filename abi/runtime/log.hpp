// Log lines of servers: one line of text, to standard error, which the kernel points at the
// process's log file. For operators; one line per notable event.
#pragma once

#include <cstdint>
#include <string>
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

/// Writes the stamp of now (log_stamp.hpp), `text` and a newline in one write. What cannot be
/// written is left out, and the next line that can be says how many were.
void log_line(std::string_view text);
/// From now on a thread writes the lines, begun with the first one, so that a disk that stands
/// still does not stop the caller: that waits for its line, but for 10 ms and once until the disk
/// goes on. At most 64 KiB of lines wait meanwhile. A process that ends by exit() or end_process()
/// waits a second for them. To be called when a process may have threads, and before it has any
/// that log.
void log_in_background();
/// Ends the process as _exit() does, without destructors and what atexit() was given, for there may
/// be threads that still use what those destroy; but after its log lines, as exit() does. Any
/// thread.
[[noreturn]] void end_process(int code);
/// From now on log lines go nowhere: for a library, whose host's standard error is not its own.
void silence_log();

}  // namespace aios
