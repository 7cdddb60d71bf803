#include "drivers/gpu/device_clock.hpp"

#include <doctest/doctest.h>

using aios::gpu::DeviceClock;

namespace {
constexpr std::uint64_t s = 1'000'000'000;
}

TEST_CASE("Events are told by the host's clock, as early as the soonest that was heard of") {
  DeviceClock clock;
  // The device's clock began at 1,000 s of the host's; one hears of events 10 to 500 us late.
  CHECK(clock.saw(100, 1000 * s + 100 + 500'000) == 1000 * s + 100 + 500'000);
  CHECK(clock.saw(5000, 1000 * s + 5000 + 10'000) == 1000 * s + 5000 + 10'000);
  CHECK(clock.saw(900'000, 1000 * s + 900'000 + 400'000) == 1000 * s + 900'000 + 10'000);
  CHECK(clock.to_host(800'000) == 1000 * s + 800'000 + 10'000);
}

TEST_CASE("Nothing has happened after it was heard of, though the clocks go differently") {
  DeviceClock clock;
  // The device's clock loses 100 us a second.
  for (std::uint64_t i = 1; i < 200; ++i) {
    const std::uint64_t now = 500 * s + i * s / 10;
    const std::uint64_t device = i * s / 10 - i * 10'000;
    const std::uint64_t at = clock.saw(device, now + 20'000);
    CHECK(at <= now + 20'000);
    // As far off as they part in two seconds.
    CHECK(at + 250'000 >= now);
  }
  // The other way round, and after a long rest.
  DeviceClock fast;
  for (std::uint64_t i = 1; i < 200; ++i) {
    const std::uint64_t now = 500 * s + i * s * (i > 100 ? 60 : 1);
    const std::uint64_t device = (now - 500 * s) / 10'000 * 10'001;
    CHECK(fast.saw(device, now) <= now);
    CHECK(fast.to_host(device) + s >= now);
  }
}
