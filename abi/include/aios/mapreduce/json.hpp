// Lets a job read JSON Lines (--input-format jsonl): it has
//
//   using Json = aios::mapreduce::Json;
//
// Needs the header-only library nlohmann/json (Debian: nlohmann-json3-dev).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <aios/mapreduce/key.hpp>

namespace aios::mapreduce {

/// Finds one member in lines of JSON without making objects of them.
class Json {
 public:
  /// The name of a member of the outermost object, or, beginning with '/', a JSON pointer
  /// (RFC 6901).
  explicit Json(std::string_view field) {
    if (!field.starts_with('/')) {
      path_.emplace_back(field);
    } else {
      for (std::size_t at = 0, end; at < field.size(); at = end) {
        end = std::min(field.find('/', at + 1), field.size());
        path_.push_back(unescaped(field.substr(at + 1, end - at - 1)));
      }
    }
    in_array_.resize(path_.size());
    element_.resize(path_.size());
  }

  /// Its text: that of a string, a number or a boolean. Nothing when it is null or not there; of
  /// several that have the name the last one counts. The view lives until the next call. Failure:
  /// the line is no JSON, or the member an object or array.
  std::optional<std::string_view> text(std::string_view line) {
    depth_ = matched_ = 0;
    found_ = Found::nothing;
    if (!nlohmann::json::sax_parse(line.begin(), line.end(), this))
      throw Failure("no JSON: it goes wrong at byte " + std::to_string(wrong_) + " of the line");
    if (found_ == Found::container)
      throw Failure("the field here is an object or array, and not a text");
    if (found_ == Found::nothing) return std::nullopt;
    return text_;
  }

  // What the parser calls.
  bool null() { return at_value() ? found(Found::nothing) : true; }
  bool boolean(bool value) { return at_value() ? take(value ? "true" : "false") : true; }
  bool number_integer(std::int64_t value) {
    return at_value() ? take(std::to_string(value)) : true;
  }
  bool number_unsigned(std::uint64_t value) {
    return at_value() ? take(std::to_string(value)) : true;
  }
  bool number_float(double, const std::string& written) {
    return at_value() ? take(written) : true;
  }
  bool string(const std::string& value) { return at_value() ? take(value) : true; }
  bool binary(const std::vector<std::uint8_t>&) { return true; }
  bool start_object(std::size_t) { return start(false); }
  bool start_array(std::size_t) { return start(true); }
  bool end_object() { return end(); }
  bool end_array() { return end(); }
  bool key(const std::string& name) {
    step([&](const std::string& wanted) { return wanted == name; });
    return true;
  }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::json::exception&) {
    wrong_ = at;
    return false;
  }

 private:
  enum class Found { nothing, text, container };

  static std::string unescaped(std::string_view token) {
    std::string plain;
    for (std::size_t i = 0; i < token.size(); ++i) {
      const bool escape = token[i] == '~' && i + 1 < token.size();
      plain += !escape ? token[i] : token[++i] == '1' ? '/' : '~';
    }
    return plain;
  }

  /// Goes to another member of the innermost container: where that lies on the path, its name or
  /// number may be the path's next.
  template <class Is>
  void step(Is is) {
    if (depth_ > path_.size() || matched_ + 1 < depth_) return;
    matched_ = depth_ - 1 + (is(path_[depth_ - 1]) ? 1 : 0);
  }

  /// Before every value: whether it is the one that is looked for.
  bool at_value() {
    if (depth_ != 0 && depth_ <= path_.size() && in_array_[depth_ - 1]) {
      const std::size_t number = element_[depth_ - 1]++;
      step([&](const std::string& wanted) { return wanted == std::to_string(number); });
    }
    return depth_ == path_.size() && matched_ == depth_;
  }
  bool start(bool array) {
    if (at_value()) found_ = Found::container;
    if (depth_ < path_.size()) {
      in_array_[depth_] = array;
      element_[depth_] = 0;
    }
    ++depth_;
    return true;
  }
  bool end() {
    matched_ = std::min(matched_, --depth_);
    return true;
  }
  bool found(Found what) {
    found_ = what;
    return true;
  }
  bool take(std::string_view text) {
    text_.assign(text);
    return found(Found::text);
  }

  std::vector<std::string> path_;
  std::vector<bool> in_array_;        ///< of the containers that may lie on the path
  std::vector<std::size_t> element_;  ///< of those that are arrays: how many elements have begun
  std::size_t depth_ = 0;             ///< containers that are open
  std::size_t matched_ = 0;           ///< steps of the path that lead to where the parser is
  Found found_ = Found::nothing;
  std::string text_;
  std::size_t wrong_ = 0;
};

}  // namespace aios::mapreduce
