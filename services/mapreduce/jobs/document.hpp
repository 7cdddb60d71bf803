// How the jobs that ship write the name of an input file.
#pragma once

#include <string>
#include <string_view>

/// As one field of a line: a backslash, tab and newline become \\, \t and \n.
inline void append_document(std::string& line, std::string_view name) {
  for (const char c : name) {
    if (c == '\\' || c == '\t' || c == '\n') line += '\\';
    line += c == '\t' ? 't' : c == '\n' ? 'n' : c;
  }
}
