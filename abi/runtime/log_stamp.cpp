#include "abi/runtime/log_stamp.hpp"

#include <chrono>
#include <cstdio>

#include "abi/runtime/time.hpp"

namespace aios {

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

}  // namespace aios
