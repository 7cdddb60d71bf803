// A point as a line of text: numbers that are separated by a comma, by blanks, or by both.
#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace aios::points {

/// So that no sum of squares overflows single precision.
inline constexpr double max_coordinate = 1e15;
inline constexpr std::size_t max_dimensions = 65536;

struct BadPoint : std::runtime_error {
  BadPoint(std::size_t place, const std::string& what) : std::runtime_error(what), at(place) {}
  std::size_t at;  ///< in the line
};

inline bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

inline std::size_t skip_blanks(std::string_view line, std::size_t at) {
  while (at < line.size() && is_blank(line[at])) ++at;
  return at;
}

/// The number that begins at `at`, which is left behind it.
inline float read_number(std::string_view line, std::size_t& at) {
  const std::size_t begin = at;
  std::size_t end = begin;
  while (end < line.size() && !is_blank(line[end]) && line[end] != ',') ++end;
  const std::string_view text = line.substr(begin, end - begin);
  const auto bad = [&](const char* why) {
    std::string shown(text.substr(0, 40));
    for (char& c : shown)
      if (c < ' ' || c > '~') c = '?';
    return BadPoint(begin, "'" + shown + "' " + why);
  };
  if (text.empty()) throw BadPoint(begin, "a number is missing");
  const bool plus = text[0] == '+' && text.size() > 1 && text[1] != '-';
  double value = 0;
  const auto read = std::from_chars(text.data() + plus, text.data() + text.size(), value);
  if (read.ptr != text.data() + text.size() || read.ec == std::errc::invalid_argument)
    throw bad("is no number");
  if (read.ec != std::errc()) throw bad("is beyond double precision");
  if (!std::isfinite(value)) throw bad("is not finite, and cannot be a coordinate");
  if (std::fabs(value) > max_coordinate) throw bad("is beyond 1e15; scale the points");
  at = end;
  return static_cast<float>(value);
}

/// Hands the numbers of a line to `take(number)`; how many they are: none of a blank line. Throws
/// BadPoint.
template <class Take>
std::size_t read_point(std::string_view line, Take&& take) {
  std::size_t at = skip_blanks(line, 0), count = 0;
  while (at < line.size()) {
    if (++count > max_dimensions) throw BadPoint(at, "a point has at most 65536 numbers");
    take(read_number(line, at));
    at = skip_blanks(line, at);
    if (at == line.size() || line[at] != ',') continue;
    at = skip_blanks(line, at + 1);
    if (at == line.size()) throw BadPoint(at, "a number is missing");
  }
  return count;
}

}  // namespace aios::points
