#include "abi/runtime/log.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <string>

#include "abi/runtime/time.hpp"

namespace aios {

namespace {
std::atomic<bool> silent = false;
std::mutex limit_mutex;
LogLimit limit;
}  // namespace

bool LogLimit::allows(std::uint64_t now_ns) {
  const std::uint64_t earned = (now_ns - last_ns_) / (ns_per_s / lines_per_s);
  if (earned != 0) {
    left_ = std::min(burst, left_ + earned);
    last_ns_ = now_ns;
  }
  if (left_ == 0) {
    ++left_out_;
    return false;
  }
  --left_;
  return true;
}

void silence_log() {
  silent.store(true, std::memory_order_relaxed);
}

void log_line(std::string_view text) {
  if (silent.load(std::memory_order_relaxed)) return;
  char stamp[32];
  const std::uint64_t now = now_ns();
  std::uint64_t left_out = 0;
  {
    const std::lock_guard lock(limit_mutex);
    if (!limit.allows(now)) return;
    left_out = limit.take_left_out();
  }
  const int n = std::snprintf(stamp, sizeof stamp, "%llu.%03llu ",
                              static_cast<unsigned long long>(now / ns_per_s),
                              static_cast<unsigned long long>(now / ns_per_ms % 1000));
  std::string line(stamp, static_cast<std::size_t>(n));
  if (left_out != 0) line.append("(" + std::to_string(left_out) + " lines left out) ");
  line.append(text);
  line.push_back('\n');
  // A log that cannot be written must not stop the server.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace aios
