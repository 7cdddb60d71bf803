// Standard input, output and error of tools. Needs fmt: for programs that print.
#pragma once

#include <fmt/core.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

namespace aios {

/// First of all in main: so that no other file of the program gets the number of a standard stream
/// that is closed. Reading such an input fails then; what is written to such an output is dropped.
void hold_standard_streams();

/// Last of all in main: the exit code, which is 1 in place of 0 when standard output could not be
/// written, as `program` says on standard error. That nobody reads a pipe any more is no failure.
int finish_output(const char* program, int code);

/// As fmt::print, which throws where the stream cannot be written. Of standard output that is seen
/// by finish_output; a message that nobody can see must not end what it is about.
template <class... T>
void print_to(std::FILE* stream, fmt::format_string<T...> format, T&&... arguments) {
  const std::string text = fmt::format(format, std::forward<T>(arguments)...);
  std::fwrite(text.data(), 1, text.size(), stream);
}

/// `text` without control bytes, by which what others have named could drive the terminal.
std::string printable(std::string_view text);

}  // namespace aios
