#include "tools/aiosctl/common/log_tail.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/signals.hpp"

namespace aios::ctl {

namespace {

std::uint64_t size_of(const Fd& file) {
  struct stat info {};
  return ::fstat(file.get(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

Result<std::string> read_range(const Fd& file, std::uint64_t from, std::uint64_t to) {
  std::string text(to - from, '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::pread(file.get(), text.data() + done, text.size() - done,
                              static_cast<off_t>(from + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("read log", errno);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  text.resize(done);
  return text;
}

}  // namespace

std::string log_path(const std::string& state, const std::string& server) {
  return state + "/logs/" + server + ".log";
}

std::uint64_t log_size(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

Result<std::string> log_tail(const std::string& path, std::size_t lines, std::uint64_t from) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno_error("open " + path, errno);
  const std::uint64_t size = size_of(file);
  if (size > max_tail_bytes) from = std::max(from, size - max_tail_bytes);
  std::string text = TRY(read_range(file, std::min(from, size), size));
  std::size_t begin = text.size();
  // The newline that ends the last line does not begin another.
  if (begin != 0 && text[begin - 1] == '\n') --begin;
  for (std::size_t found = 0; begin != 0; --begin)
    if (text[begin - 1] == '\n' && ++found == lines) break;
  return lines == 0 ? std::string() : text.substr(begin);
}

Result<void> log_follow(const std::string& path, std::uint64_t from) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno_error("open " + path, errno);
  const Fd changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!changes.valid() || ::inotify_add_watch(changes.get(), path.c_str(), IN_MODIFY) < 0)
    return errno_error("watch " + path, errno);
  const Fd signals = TRY(make_signal_fd({SIGINT, SIGTERM}));
  for (;;) {
    const std::uint64_t size = size_of(file);
    if (size < from) from = 0;
    while (from < size) {
      const std::string text = TRY(read_range(file, from, std::min(size, from + max_tail_bytes)));
      if (text.empty()) break;
      std::fwrite(text.data(), 1, text.size(), stdout);
      from += text.size();
    }
    if (std::fflush(stdout) != 0) return errno_error("print log", errno);
    pollfd fds[2] = {{changes.get(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) return errno_error("wait for log", errno);
    if (fds[1].revents != 0) return {};
    alignas(inotify_event) std::array<std::byte, 4096> buffer;
    while (::read(changes.get(), buffer.data(), buffer.size()) > 0) {
    }
  }
}

}  // namespace aios::ctl
