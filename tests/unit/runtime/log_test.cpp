#include "abi/runtime/log.hpp"

#include <doctest/doctest.h>

#include "abi/runtime/time.hpp"

using namespace aios;

TEST_CASE("A burst of lines is written, then so many a second, and what is left out is counted") {
  LogLimit limit;
  const std::uint64_t start = 1000 * ns_per_s;
  for (std::uint64_t i = 0; i < LogLimit::burst; ++i) REQUIRE(limit.allows(start));
  for (int i = 0; i < 7; ++i) CHECK_FALSE(limit.allows(start));
  CHECK(limit.take_left_out() == 7);
  CHECK(limit.take_left_out() == 0);
  std::uint64_t written = 0;
  for (std::uint64_t i = 1; i <= 100; ++i)
    if (limit.allows(start + i * ns_per_s / 100)) ++written;
  CHECK(written == LogLimit::lines_per_s);
  CHECK(limit.take_left_out() == 100 - LogLimit::lines_per_s);
}

TEST_CASE("After a long silence the whole burst is there again, and no more") {
  LogLimit limit;
  const std::uint64_t start = 5 * ns_per_s;
  while (limit.allows(start)) {
  }
  const std::uint64_t later = start + 3600 * ns_per_s;
  std::uint64_t written = 0;
  while (limit.allows(later)) ++written;
  CHECK(written == LogLimit::burst);
}

TEST_CASE("A line's stamp is the date and time in UTC, and the seconds that the machine has run") {
  CHECK(log_stamp(0, 0) == "1970-01-01T00:00:00.000Z 0.000 ");
  CHECK(log_stamp(1'795'711'032'345'678'901, 71'317'797'000'000) ==
        "2026-11-26T16:37:12.345Z 71317.797 ");
  // A leap day.
  CHECK(log_stamp(1'709'251'199'999'999'999, ns_per_ms) == "2024-02-29T23:59:59.999Z 0.001 ");
}

TEST_CASE("The stamp is taken off a line that has one") {
  CHECK(without_log_stamp(log_stamp(1'795'711'032'345'678'901, 71'317'797'000'000) +
                          "up: 7 of 7") == "up: 7 of 7");
  CHECK(without_log_stamp(log_stamp(0, 0)) == "");
  for (const char* plain : {"", "terminate called", "12 angry men", "2026-11-26T16:37:12.345Z",
                            "2026-11-26T16:37:12.345Z 1.0", "2026-11-26 16:37:12.345Z 1.0 x"})
    CHECK(without_log_stamp(plain) == plain);
}
