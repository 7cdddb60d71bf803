// What the makers of cases have in common: inputs, arguments, buffers, number formats.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <random>
#include <span>
#include <vector>

#include "abi/include/aios/codelet.h"
#include "tests/conformance/cases.hpp"

namespace aios::conformance {

using Floats = std::vector<float>;
using Bytes = std::vector<std::uint8_t>;
using Words = std::vector<std::uint32_t>;

/// Half a unit in the last place of a float.
inline constexpr double rounding = 6e-8;

class Inputs {
 public:
  explicit Inputs(std::uint32_t seed) : engine_(seed) {}
  Floats floats(std::size_t n, float least = -1, float most = 1) {
    Floats made(n);
    std::uniform_real_distribution<float> any(least, most);
    for (float& value : made) value = any(engine_);
    return made;
  }
  Bytes bytes(std::size_t n) {
    Bytes made(n);
    for (std::uint8_t& value : made) value = static_cast<std::uint8_t>(engine_());
    return made;
  }
  Words below(std::size_t n, std::uint32_t bound) {
    Words made(n);
    for (std::uint32_t& value : made) value = static_cast<std::uint32_t>(engine_()) % bound;
    return made;
  }

 private:
  std::mt19937 engine_;
};

template <class T>
std::vector<std::byte> raw(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

/// 4-byte arguments, as they lie in a kernel's structure.
inline std::vector<std::byte> pack(std::initializer_list<std::uint32_t> words) {
  return raw(Words(words));
}

template <class T>
CaseBuffer reads(const std::vector<T>& values) {
  return {raw(values), AIOS_MODE_READ};
}
template <class T>
CaseBuffer changes(const std::vector<T>& values) {
  return {raw(values), AIOS_MODE_READ_WRITE};
}
/// Filled with what no codelet writes.
inline CaseBuffer writes(std::size_t bytes) {
  return {std::vector<std::byte>(bytes, std::byte{0xA5}), AIOS_MODE_WRITE};
}

inline std::uint32_t parts(std::size_t n, std::size_t size) {
  return static_cast<std::uint32_t>((n + size - 1) / size);
}

inline std::uint32_t u32(std::size_t n) {
  return static_cast<std::uint32_t>(n);
}

/// A format of 16 bits, as the standards define it, without the codelets' tricks.
struct Format {
  const char* name;
  Element element;
  int precision;   ///< bits of the significand, with the one that is not stored
  int least;       ///< exponent of the smallest normal number
  double largest;  ///< finite
};
inline constexpr Format half_format{"half", Element::f16, 11, -14, 65504};
inline constexpr Format bfloat_format{"bfloat", Element::bf16, 8, -126, 3.3895313892515355e38};

/// What the bits of a finite number say.
double decode(const Format& format, std::uint16_t bits);

/// Cases of the module `half`.
void add_half_cases(std::vector<Case>& cases);

}  // namespace aios::conformance
