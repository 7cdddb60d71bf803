#include "abi/runtime/log.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <mutex>

#include "abi/runtime/time.hpp"

namespace aios {

namespace {
std::atomic<bool> silent = false;
std::mutex limit_mutex;
LogLimit limit;

std::uint64_t since_1970_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * ns_per_s + static_cast<std::uint64_t>(t.tv_nsec);
}
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

// Not by gmtime_r, which looks for the time zone's file: a sandbox has none.
std::string log_stamp(std::uint64_t since_1970_ns, std::uint64_t since_start_ns) {
  using namespace std::chrono;
  const sys_time<milliseconds> at{milliseconds(since_1970_ns / ns_per_ms)};
  const auto day = floor<days>(at);
  const year_month_day date(day);
  const hh_mm_ss time(at - day);
  char stamp[80];
  const int n = std::snprintf(
      stamp, sizeof stamp, "%04d-%02u-%02uT%02ld:%02ld:%02lld.%03lldZ %llu.%03llu ",
      int(date.year()), unsigned(date.month()), unsigned(date.day()), long(time.hours().count()),
      long(time.minutes().count()), static_cast<long long>(time.seconds().count()),
      static_cast<long long>(time.subseconds().count()),
      static_cast<unsigned long long>(since_start_ns / ns_per_s),
      static_cast<unsigned long long>(since_start_ns / ns_per_ms % 1000));
  return {stamp, static_cast<std::size_t>(n)};
}

std::string_view without_log_stamp(std::string_view line) {
  constexpr std::string_view form = "dddd-dd-ddTdd:dd:dd.dddZ ";
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (line.size() <= form.size()) return line;
  for (std::size_t i = 0; i < form.size(); ++i)
    if (form[i] == 'd' ? !digit(line[i]) : line[i] != form[i]) return line;
  const std::size_t end = line.find_first_not_of("0123456789.", form.size());
  return end == line.npos || end == form.size() || line[end] != ' ' ? line : line.substr(end + 1);
}

void silence_log() {
  silent.store(true, std::memory_order_relaxed);
}

void log_line(std::string_view text) {
  if (silent.load(std::memory_order_relaxed)) return;
  const std::uint64_t now = now_ns();
  std::uint64_t left_out = 0;
  {
    const std::lock_guard lock(limit_mutex);
    if (!limit.allows(now)) return;
    left_out = limit.take_left_out();
  }
  std::string line = log_stamp(since_1970_ns(), now);
  if (left_out != 0) line.append("(" + std::to_string(left_out) + " lines left out) ");
  line.append(text);
  line.push_back('\n');
  // A log that cannot be written must not stop the server.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace aios
