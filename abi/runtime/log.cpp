#include "abi/runtime/log.hpp"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <string>

#include "abi/runtime/time.hpp"

namespace aios {

namespace {
std::atomic<bool> silent = false;
}

void silence_log() {
  silent.store(true, std::memory_order_relaxed);
}

void log_line(std::string_view text) {
  if (silent.load(std::memory_order_relaxed)) return;
  char stamp[32];
  const std::uint64_t now = now_ns();
  const int n = std::snprintf(stamp, sizeof stamp, "%llu.%03llu ",
                              static_cast<unsigned long long>(now / ns_per_s),
                              static_cast<unsigned long long>(now / ns_per_ms % 1000));
  std::string line(stamp, static_cast<std::size_t>(n));
  line.append(text);
  line.push_back('\n');
  // A log that cannot be written must not stop the server.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace aios
