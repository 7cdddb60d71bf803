// Task graphs of Task Bench's kind, the same for AIOS and for the systems it is measured beside.
// Tasks are numbered in an order in which they can run; a task's dependencies have lower numbers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace aios::bench {

enum class Pattern { trivial, chain, stencil, fft, tree };
inline constexpr std::string_view pattern_names[] = {"trivial", "chain", "stencil", "fft", "tree"};
inline constexpr Pattern all_patterns[] = {Pattern::trivial, Pattern::chain, Pattern::stencil,
                                           Pattern::fft, Pattern::tree};

/// Tasks side by side; of each row all but the first row's depend on the row before.
inline constexpr std::uint32_t pattern_width = 64;
inline constexpr std::uint32_t pattern_width_bits = 6;

inline std::string_view name_of(Pattern pattern) {
  return pattern_names[static_cast<std::size_t>(pattern)];
}

inline std::optional<Pattern> pattern_from(std::string_view name) {
  for (const Pattern pattern : all_patterns)
    if (name_of(pattern) == name) return pattern;
  return std::nullopt;
}

struct Dependencies {
  std::uint32_t count = 0;
  std::array<std::uint32_t, 3> tasks{};
  void add(std::uint32_t task) { tasks[count++] = task; }
};

/// Of task `task`, counted from 0.
inline Dependencies dependencies_of(Pattern pattern, std::uint32_t task) {
  Dependencies out;
  if (pattern == Pattern::tree && task > 0) out.add((task - 1) / 2);
  if (pattern == Pattern::trivial || pattern == Pattern::tree || task < pattern_width) return out;
  const std::uint32_t above = task - pattern_width;
  const std::uint32_t column = task % pattern_width;
  out.add(above);
  if (pattern == Pattern::chain) return out;
  const std::uint32_t row = task / pattern_width;
  const std::uint32_t reach = pattern == Pattern::fft ? 1u << (row - 1) % pattern_width_bits : 1u;
  if (column >= reach) out.add(above - reach);
  if (column + reach < pattern_width) out.add(above + reach);
  return out;
}

/// What a task of the measurements does.
inline void spin(std::uint64_t iterations) {
  for (std::uint64_t i = 0; i < iterations; ++i) __asm__ volatile("" ::: "memory");
}

}  // namespace aios::bench
