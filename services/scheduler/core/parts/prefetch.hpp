// What is brought to a cache before it is needed.
#pragma once

#include <cstddef>

namespace aios::scheduler {

/// The lines of `bytes` from there on will be read and written in a moment. Nothing is checked: an
/// address may be beyond the end of what it is in.
inline void prefetch_to_write(const void* from, std::size_t bytes) {
  constexpr std::size_t line_bytes = 64;
  for (std::size_t at = 0; at < bytes; at += line_bytes)
    __builtin_prefetch(static_cast<const char*>(from) + at, 1);
}

}  // namespace aios::scheduler
