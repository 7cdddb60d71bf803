#include "tools/aiosctl/common/output.hpp"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <cstdio>

#include "abi/runtime/standard_streams.hpp"
#include "abi/runtime/time.hpp"

namespace aios::ctl {

namespace {

/// Columns that the text takes: bytes that do not continue a UTF-8 character.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](unsigned char byte) { return (byte & 0xC0) != 0x80; }));
}

}  // namespace

void Table::add(std::vector<std::string> cells) {
  assert(cells.size() == columns_.size());
  for (std::string& cell : cells) cell = printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::to_string() const {
  std::vector<std::string> titles;
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    std::size_t width = width_of(columns_[i].title);
    for (const auto& row : rows_) width = std::max(width, width_of(row[i]));
    widths.push_back(width);
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (i != 0) text += "  ";
      const std::string pad(widths[i] - width_of(cells[i]), ' ');
      text += columns_[i].align == Align::right ? pad + cells[i] : cells[i] + pad;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line(titles);
  for (const auto& row : rows_) line(row);
  return out;
}

void Table::print() const {
  std::fputs(to_string().c_str(), stdout);
}

std::string human_bytes(std::uint64_t bytes) {
  static constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // 1023.95 would print as 1024.0.
  while (value >= 1023.95 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  const bool whole = value >= 99.95;
  return fmt::format("{:.{}f} {}", value, whole ? 0 : 1, units[unit]);
}

std::string human_duration(std::uint64_t duration_ns) {
  const std::uint64_t seconds = duration_ns / ns_per_s;
  if (duration_ns < ns_per_us) return fmt::format("{} ns", duration_ns);
  if (duration_ns < ns_per_ms) return fmt::format("{} us", duration_ns / ns_per_us);
  if (duration_ns < ns_per_s)
    return fmt::format("{:.1f} ms", static_cast<double>(duration_ns / (ns_per_ms / 100)) / 100);
  if (seconds < 60)
    return fmt::format("{:.1f} s", static_cast<double>(duration_ns / (ns_per_s / 100)) / 100);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  if (seconds < 86'400) return fmt::format("{} h {} min", seconds / 3600, seconds % 3600 / 60);
  return fmt::format("{} d {} h", seconds / 86'400, seconds % 86'400 / 3600);
}

void print_json(const nlohmann::json& document, int indent) {
  const std::string text =
      document.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
}

std::uint64_t parse_size(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc()) return 0;
  std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  int shift = 0;
  if (!unit.empty()) {
    static constexpr std::string_view letters = "KMGT";
    const std::size_t at = letters.find(static_cast<char>(unit[0] & ~0x20));
    if (at != std::string_view::npos) {
      shift = static_cast<int>(10 * (at + 1));
      unit.remove_prefix(1);
    }
    if (unit != "" && unit != "B" && unit != "iB" && unit != "b") return 0;
  }
  return number > (~0ull >> shift) ? 0 : number << shift;
}

std::optional<std::uint64_t> parse_duration(std::string_view text) {
  constexpr std::pair<std::string_view, double> units[] = {
      {"", 1e9}, {"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"min", 60e9}, {"h", 3600e9}};
  constexpr double most_ns = 366.0 * 24 * 3600e9;
  double number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || !(number >= 0)) return std::nullopt;
  std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const auto& [name, ns] : units)
    if (unit == name && number * ns <= most_ns) return static_cast<std::uint64_t>(number * ns);
  return std::nullopt;
}

}  // namespace aios::ctl
