// What a server wrote to its log last.
#pragma once

#include <cstdint>
#include <string>

namespace aios::supervisor {

/// 0 when there is no such log.
std::uint64_t log_size(const std::string& path);

/// The last line that begins at or after byte `from`, without the time before it, printable and at
/// most `most` bytes long; empty when there is none. Only the last 4 KiB are looked at.
std::string last_words(const std::string& path, std::uint64_t from, std::size_t most);

}  // namespace aios::supervisor
