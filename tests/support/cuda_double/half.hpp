// Numbers of 16 bits, one at a time and as the standards say, for the double of cuBLAS.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace aios::cuda_double {

inline float from_bfloat(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// To the nearest, of two the even one.
inline std::uint16_t to_bfloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float from_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 0x3ff;
  const float sign = (bits & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
}

/// To the nearest, of two the even one: nearbyint rounds so, in units of the result's last place.
inline std::uint16_t to_half(float value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return 0x7e00;
  const float size = std::fabs(value);
  if (size >= 65520.0f) return sign | 0x7c00;
  if (size < std::ldexp(1.0f, -24) / 2) return sign;
  int exponent = 0;
  (void)std::frexp(size, &exponent);
  const int unit = std::max(exponent - 11, -24);
  const auto count = static_cast<int>(std::nearbyint(std::ldexp(size, -unit)));
  // A count of 2048 is the next power of two, and a normal one's 1024 is its hidden bit: both carry
  // into the exponent by themselves.
  return sign | static_cast<std::uint16_t>(count + (unit + 24) * 1024);
}

}  // namespace aios::cuda_double
