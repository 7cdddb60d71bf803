// The stamp of a log line: written by whoever logs, taken off by who shows the rest of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace aios {

/// What every line begins with, "2026-11-26T16:37:12.345Z 71317.797 ": UTC, for readers; and
/// seconds since the start of the machine, by which listings and traces count and which no clock
/// that is set disturbs.
std::string log_stamp(std::uint64_t since_1970_ns, std::uint64_t since_start_ns);
/// A line without its stamp; one that has none as it is.
std::string_view without_log_stamp(std::string_view line);

}  // namespace aios
