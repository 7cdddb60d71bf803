// CSV as RFC 4180 has it: fields between delimiters; one in quotes may hold delimiters, newlines
// and, doubled, quotes. Lines end with a newline or a carriage return and a newline.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <aios/mapreduce/key.hpp>

namespace aios::mapreduce {

namespace engine {

/// Bytes of a mark that a file may begin with, and that is no part of its first field.
inline std::size_t byte_order_mark(std::string_view begin) {
  return begin.starts_with("\xef\xbb\xbf") ? 3 : 0;
}

/// Finds where records end, over any number of buffers. Only a quote that begins a field lets
/// newlines into it; any other is data, though the record is malformed: so one that is wrong harms
/// none of the others.
class CsvScanner {
 public:
  static constexpr std::size_t goes_on = ~std::size_t{0};

  explicit CsvScanner(char delimiter) : delimiter_(delimiter) {}

  /// Goes on where the last call ended. Just behind the newline that ends the record, where the
  /// next one begins; or goes_on.
  std::size_t end_of_record(const char* at, std::size_t size) {
    std::size_t newline = 0;  // the first from `i` on, as long as that has not passed it
    bool known = false;
    for (std::size_t i = 0; i < size;) {
      if (state_ == State::quoted) {
        i = find(at, i, size, '"');
        if (i == size) break;
        state_ = State::closing;
        ++i;
      } else if (state_ == State::closing) {
        state_ = at[i] == '"' ? State::quoted : State::plain;
        previous_ = '"';
        if (state_ == State::quoted) ++i;
      } else {
        if (!known || newline < i) newline = find(at, i, size, '\n');
        known = true;
        const std::size_t quote = find(at, i, newline, '"');
        if (quote == newline) return finish(at, newline, size);
        const char before = quote == i ? previous_ : at[quote - 1];
        if (before == delimiter_ || before == '\n') state_ = State::quoted;
        previous_ = '"';
        i = quote + 1;
      }
    }
    return goes_on;
  }

 private:
  enum class State { plain, quoted, closing };

  static std::size_t find(const char* at, std::size_t from, std::size_t end, char byte) {
    const void* found = std::memchr(at + from, byte, end - from);
    return found == nullptr ? end : static_cast<std::size_t>(static_cast<const char*>(found) - at);
  }
  std::size_t finish(const char* at, std::size_t newline, std::size_t size) {
    previous_ = newline == size ? at[size - 1] : '\n';
    return newline == size ? goes_on : newline + 1;
  }

  char delimiter_;
  State state_ = State::plain;
  char previous_ = '\n';  ///< the byte before, outside quotes
};

/// Walks the fields of one record, given without its line end.
class CsvFields {
 public:
  CsvFields(std::string_view record, char delimiter) : record_(record), delimiter_(delimiter) {}

  /// The next field; nothing after the last. Without doubled quotes the view is of the record, with
  /// them of `scratch`. Failure when it is malformed.
  std::optional<std::string_view> next(std::string& scratch) {
    if (at_ > record_.size()) return std::nullopt;
    ++number_;
    const bool quoted = at_ < record_.size() && record_[at_] == '"';
    const std::string_view text = quoted ? in_quotes(scratch) : plain();
    ++at_;  // past the delimiter, or the end
    return text;
  }

 private:
  std::string_view plain() {
    const std::size_t begin = at_;
    at_ = std::min(record_.find(delimiter_, begin), record_.size());
    const std::string_view text = record_.substr(begin, at_ - begin);
    if (text.find('"') != text.npos) malformed("has a quote, but does not begin with one");
    return text;
  }

  std::string_view in_quotes(std::string& scratch) {
    const std::size_t begin = at_ + 1;
    bool doubled = false;
    for (std::size_t from = begin;; from = at_ + 2) {
      at_ = record_.find('"', from);
      if (at_ == record_.npos) malformed("has a quote that is never closed");
      if (at_ + 1 == record_.size() || record_[at_ + 1] != '"') break;
      doubled = true;
    }
    const std::string_view text = record_.substr(begin, at_ - begin);
    if (++at_ < record_.size() && record_[at_] != delimiter_)
      malformed("goes on behind its closing quote");
    return doubled ? undoubled(text, scratch) : text;
  }

  static std::string_view undoubled(std::string_view text, std::string& scratch) {
    scratch.clear();
    for (std::size_t at = 0; at < text.size(); at = text[at] == '"' ? at + 2 : at + 1)
      scratch += text[at];
    return scratch;
  }

  [[noreturn]] void malformed(const char* how) const {
    throw Failure("field " + std::to_string(number_) + " of the CSV record here " + how);
  }

  std::string_view record_;
  char delimiter_;
  std::size_t at_ = 0;
  std::size_t number_ = 0;
};

}  // namespace engine

/// The fields of a CSV record as a job of Records sees it. Failure when it is malformed.
inline std::vector<std::string> csv_fields(std::string_view record, char delimiter = ',') {
  std::vector<std::string> fields;
  std::string scratch;
  engine::CsvFields walk(record, delimiter);
  while (const auto field = walk.next(scratch)) fields.emplace_back(*field);
  return fields;
}

}  // namespace aios::mapreduce
