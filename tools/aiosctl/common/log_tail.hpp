// Reading the logs of an instance, STATE/logs/NAME.log.
#pragma once

#include <cstdint>
#include <string>

#include "abi/runtime/status.hpp"

namespace aios::ctl {

/// At most this much of the end of a log is read.
inline constexpr std::uint64_t max_tail_bytes = 4u << 20;

std::string log_path(const std::string& state, const std::string& server);
/// 0 when there is no such log.
std::uint64_t log_size(const std::string& path);
/// The last `lines` lines that begin at or after byte `from`. not_found.
Result<std::string> log_tail(const std::string& path, std::size_t lines, std::uint64_t from = 0);
/// Prints what is appended to the log from byte `from` on, from its beginning again when it was
/// cut, until SIGINT or SIGTERM.
Result<void> log_follow(const std::string& path, std::uint64_t from);

}  // namespace aios::ctl
