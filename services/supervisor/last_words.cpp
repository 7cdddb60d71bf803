#include "services/supervisor/last_words.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/log_stamp.hpp"

namespace aios::supervisor {

std::uint64_t log_size(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

std::string last_words(const std::string& path, std::uint64_t from, std::size_t most) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return {};
  const std::uint64_t size = log_size(path);
  if (size < from) from = 0;  // it was begun anew meanwhile
  std::array<char, 4096> bytes;
  from = std::max(from, size - std::min<std::uint64_t>(size, bytes.size()));
  const ssize_t n = ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(from));
  std::string_view text(bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  text = text.substr(0, text.find_last_not_of('\n') + 1);
  if (const std::size_t newline = text.rfind('\n'); newline != text.npos)
    text.remove_prefix(newline + 1);
  std::string line(without_log_stamp(text).substr(0, most));
  std::ranges::replace_if(
      line, [](char c) { return c < ' ' || c > '~'; }, '?');
  return line;
}

}  // namespace aios::supervisor
