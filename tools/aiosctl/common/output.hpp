// What listings share: aligned tables and quantities that people can read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace aios::ctl {

enum class Align { left, right };

struct Column {
  std::string title;
  Align align = Align::left;
};

/// A table of text, its columns as wide as their widest cell. Control bytes are shown as '?', so
/// that no name can drive the terminal.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  /// As many cells as there are columns.
  void add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  /// One line per row, a line of titles first; no trailing blanks.
  std::string to_string() const;
  void print() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// "0 B", "17 KiB", "1.5 MiB".
std::string human_bytes(std::uint64_t bytes);
/// "850 ns", "12 us", "3.4 ms", "12.5 s", "4 min 5 s", "3 h 7 min", "2 d 3 h".
std::string human_duration(std::uint64_t duration_ns);
/// From "1.5s", "200ms", "30us", "2min" or "1h", seconds without a unit; nothing for what is no
/// such time, or is over a year.
std::optional<std::uint64_t> parse_duration(std::string_view text);

/// To standard output, with a newline; what is no UTF-8 is replaced. `indent` -1: in one line.
void print_json(const nlohmann::json& document, int indent = 2);

/// A number of bytes from "64", "64K", "64M", "2G", "64MiB", "64 MB"; units are powers of 1024.
/// 0 is refused: returns 0 for anything that is not a size.
std::uint64_t parse_size(std::string_view text);

}  // namespace aios::ctl
