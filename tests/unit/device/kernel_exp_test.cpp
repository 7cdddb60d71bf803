// aios_exp of aios/kernel.h, as the processor computes it.
#include <aios/kernel.h>
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>

TEST_CASE(
    "aios_exp is within two units in the last place, wherever the result is a normal number") {
  double worst = 0;
  for (float x = -87.3f; x < 88.7f; x += 0.00037f) {
    const double exact = std::exp(double(x));
    const auto rounded = static_cast<float>(exact);
    const double unit = double(std::nextafter(rounded, INFINITY)) - double(rounded);
    worst = std::max(worst, std::fabs(double(aios_exp(x)) - exact) / unit);
  }
  CHECK(worst < 2);
}

TEST_CASE("aios_exp below the normal numbers is off by no more than one of their steps") {
  for (float x = -104.0f; x < -87.3f; x += 0.0021f) {
    CAPTURE(x);
    CHECK(std::fabs(double(aios_exp(x)) - std::exp(double(x))) <= 1.5e-45);
  }
}

TEST_CASE("aios_exp of what is no usual number") {
  constexpr float infinite = std::numeric_limits<float>::infinity();
  CHECK(aios_exp(0.0f) == 1.0f);
  CHECK(aios_exp(-0.0f) == 1.0f);
  CHECK(aios_exp(infinite) == infinite);
  CHECK(aios_exp(3e38f) == infinite);
  CHECK(aios_exp(88.8f) == infinite);
  CHECK(aios_exp(-infinite) == 0.0f);
  CHECK(aios_exp(-3e38f) == 0.0f);
  CHECK(std::isnan(aios_exp(std::numeric_limits<float>::quiet_NaN())));
}
