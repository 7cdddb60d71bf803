// Keys as the engine handles them: their first eight bytes as a number that orders like the bytes,
// a hash, and comparison.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

namespace aios::mapreduce {

/// Thrown by the engine, or by a job, to fail the whole job with a message. `code` is one of
/// aios.h's. Any other std::exception that leaves a job does the same with its what().
class Failure : public std::runtime_error {
 public:
  static constexpr std::int32_t invalid_argument = 1;
  static constexpr std::int32_t not_found = 5;
  static constexpr std::int32_t no_memory = 8;
  static constexpr std::int32_t too_large = 16;
  static constexpr std::int32_t io_error = 17;
  static constexpr std::int32_t corrupt = 18;
  static constexpr std::int32_t source_changed = 22;

  Failure(std::int32_t code, const std::string& message)
      : std::runtime_error(message), code_(code) {}
  explicit Failure(const std::string& message) : Failure(invalid_argument, message) {}
  std::int32_t code() const { return code_; }

 private:
  std::int32_t code_;
};

namespace engine {

inline constexpr std::size_t prefix_bytes = 8;

inline std::uint64_t load64(const char* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

inline std::uint64_t big_endian(std::uint64_t word) {
  return std::endian::native == std::endian::little ? __builtin_bswap64(word) : word;
}

/// The bytes [at, at + length) with length < 8 as a big-endian number, zero after the last.
inline std::uint64_t short_prefix(const char* at, std::size_t length) {
  char bytes[prefix_bytes] = {};
  if (length >= 4) {
    std::memcpy(bytes, at, 4);
    std::memcpy(bytes + length - 4, at + length - 4, 4);
  } else {
    for (std::size_t i = 0; i < length; ++i) bytes[i] = at[i];
  }
  return big_endian(load64(bytes));
}

inline std::uint64_t key_prefix(const char* at, std::size_t length) {
  return length >= prefix_bytes ? big_endian(load64(at)) : short_prefix(at, length);
}

/// As key_prefix, for bytes that are followed by at least seven readable ones.
inline std::uint64_t padded_prefix(const char* at, std::size_t length) {
  const std::uint64_t word = big_endian(load64(at));
  return length >= prefix_bytes ? word : word & ~(~0ull >> (8 * length));
}

inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

/// 32 bits, the same on every machine: partitions depend on it.
inline std::uint32_t key_hash(const char* at, std::size_t length, std::uint64_t prefix) {
  constexpr std::uint64_t k0 = 0x9e3779b97f4a7c15ull, k1 = 0xc2b2ae3d27d4eb4full;
  std::uint64_t hash = mix(prefix ^ k0, length + k1);
  if (length > prefix_bytes) {
    std::size_t i = prefix_bytes;
    for (; i + prefix_bytes < length; i += prefix_bytes)
      hash = mix(hash ^ big_endian(load64(at + i)), k1);
    hash = mix(hash ^ big_endian(load64(at + length - prefix_bytes)), k0);
  }
  return static_cast<std::uint32_t>(hash >> 32);
}

/// Order of two keys whose prefixes are equal.
inline int compare_tails(std::string_view a, std::string_view b) {
  const std::size_t common = std::min(a.size(), b.size());
  if (common > prefix_bytes) {
    const int order =
        std::memcmp(a.data() + prefix_bytes, b.data() + prefix_bytes, common - prefix_bytes);
    if (order != 0) return order;
  }
  return a.size() < b.size() ? -1 : a.size() > b.size() ? 1 : 0;
}

inline char* put_varint(char* at, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) *at++ = static_cast<char>(value | 0x80);
  *at++ = static_cast<char>(value);
  return at;
}

inline std::size_t varint_bytes(std::uint64_t value) {
  std::size_t n = 1;
  for (; value >= 0x80; value >>= 7) ++n;
  return n;
}

/// nullptr when the number does not end before `end`; a number above 32 bits is `corrupt`.
inline const char* get_varint(const char* at, const char* end, std::uint64_t& value) {
  value = 0;
  for (unsigned shift = 0; at != end; shift += 7) {
    const auto byte = static_cast<unsigned char>(*at++);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return at;
    if (shift >= 28) throw Failure(Failure::corrupt, "a sorted run holds a bad record length");
  }
  return nullptr;
}

}  // namespace engine
}  // namespace aios::mapreduce
