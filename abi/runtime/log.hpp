// Log lines of servers: one line of text, to standard error, which the kernel points at the
// process's log file. For operators; one line per notable event.
#pragma once

#include <string_view>

namespace aios {

/// Writes "seconds.millis text\n" in one write. Seconds count from the start of the machine.
void log_line(std::string_view text);
/// From now on log lines go nowhere: for a library, whose host's standard error is not its own.
void silence_log();

}  // namespace aios
