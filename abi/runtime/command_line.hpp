// Numbers on the command lines of AIOS's programs. Needs CLI11: for the files that declare options.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>

namespace aios::command_line {

/// "256", "0.001", "1000000".
template <class Number>
std::string number_text(Number number) {
  if constexpr (std::floating_point<Number>) {
    if (number >= 1 && number < 1e15 && number == static_cast<Number>(std::int64_t(number)))
      return std::to_string(std::int64_t(number));
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, number).ptr};
  } else {
    return std::to_string(number);
  }
}

/// The number that the whole of `text` is, in decimal; nothing for any other text, and for one that
/// `Number` cannot hold.
template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [at, failure] = std::from_chars(text.data(), end, number);
  if (failure != std::errc() || at != end) return std::nullopt;
  return number;
}

/// `bounds` is what --help shows of the numbers that are in order: "1 to 256".
template <class Number, class Fits>
CLI::Validator number_that(Fits fits, const std::string& bounds, const std::string& of) {
  const std::string kind = std::floating_point<Number> ? "a number " : "a whole number ";
  return CLI::Validator(
      [fits, takes = kind + of](std::string& text) -> std::string {
        const std::optional<Number> number = parse_number<Number>(text);
        if (!number || !fits(*number)) return "it takes " + takes + ", not '" + text + "'";
        // CLI11 would take a leading 0 for octal.
        if constexpr (std::integral<Number>) text = std::to_string(*number);
        return {};
      },
      bounds);
}

/// Both included.
template <class Number>
CLI::Validator between(Number least, Number most) {
  const std::string from = number_text(least);
  const std::string to = number_text(most);
  return number_that<Number>([=](Number number) { return number >= least && number <= most; },
                             from + " to " + to, "from " + from + " to " + to);
}

template <class Number>
CLI::Validator at_least(Number least) {
  const std::string text = "at least " + number_text(least);
  return number_that<Number>([=](Number number) { return number >= least; }, text, "of " + text);
}

/// What a variable of a script that was never set leaves must not mean the default, or this folder.
inline CLI::Validator names_something() {
  return CLI::Validator(
      [](const std::string& text) { return text.empty() ? "it is empty, and names nothing" : ""; },
      "");
}

}  // namespace aios::command_line
