// Text to measure with: the same bytes for the same size, on every machine.
#pragma once

#include <cstdint>
#include <string>

#include "abi/runtime/status.hpp"

namespace aios::bench {

/// Lines of some ten words; of a vocabulary of one word for every hundred bytes, each word at least
/// once, its front far more often than its end.
Result<void> make_corpus(const std::string& path, std::uint64_t bytes);

/// The file's bytes cut at ends of lines into `count` files of about the same size.
Result<void> cut_corpus(const std::string& path, const std::string& folder, std::uint32_t count);

/// Of the file's bytes, in hexadecimal; reads all of it.
Result<std::string> checksum(const std::string& path);

}  // namespace aios::bench
