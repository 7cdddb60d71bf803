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
