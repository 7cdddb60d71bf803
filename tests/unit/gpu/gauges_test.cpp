// How busy and warm GPUs are, over the double of NVIDIA's management library, which here and there
// is missing, broken or hangs.
#include "drivers/gpu/look/gauges.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

#include "drivers/gpu/look/nvml.hpp"

using namespace aios;
using namespace aios::gpu;

namespace {

constexpr const char* address = "0000:00:00.0";
constexpr const char* uuid = "GPU-41494f53-2065-6d75-6c61-746f72203000";

/// The driver's side, in a loop of its own.
class Fixture {
 public:
  explicit Fixture(const char* orders, const char* library = NVML_DOUBLE,
                   unsigned limit_ms = 15'000) {
    ::setenv("AIOS_NVML_LIBRARY", library, 1);
    ::setenv("AIOS_NVML_DOUBLE", orders, 1);
    gauges = std::move(*Gauges::start(*loop, limit_ms, [this] { changed = true; }));
  }
  /// Turns the loop until something is known, or why nothing is.
  void ask(std::vector<GaugeSubject> subjects = {{address, uuid}}) {
    gauges->watch(std::move(subjects));
    const Deadline deadline = Deadline::after(20 * ns_per_s);
    while (!changed && !gauges->of(uuid).busy && !gauges->of(uuid).celsius && !deadline.passed())
      REQUIRE(loop->turn(deadline));
  }
  /// Why nothing is known of it.
  std::string why_not() {
    ask();
    CHECK(!gauges->of(uuid).busy);
    CHECK(!gauges->of(uuid).celsius);
    return gauges->why_not();
  }

  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create(nullptr));
  std::unique_ptr<Gauges> gauges;
  bool changed = false;
};

bool has(const std::string& text, const char* words) {
  INFO(text);
  return text.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("A GPU is as busy and as warm as the library says") {
  Fixture f("busy=42;celsius=61");
  f.ask();
  CHECK(f.gauges->of(uuid).busy == doctest::Approx(0.42));
  CHECK(f.gauges->of(uuid).celsius == doctest::Approx(61));
  CHECK(f.gauges->why_not().empty());
  CHECK(!f.gauges->of("GPU-other").busy);
}

TEST_CASE("What the library does not say of a GPU is not known, the rest is") {
  Fixture f("celsius=61");
  f.ask();
  CHECK(!f.gauges->of(uuid).busy);
  CHECK(f.gauges->of(uuid).celsius == doctest::Approx(61));
}

TEST_CASE("Of several GPUs those that the library knows are told") {
  Fixture f("busy=1;celsius=2");
  f.ask({{"0000:7f:00.0", "GPU-7"}, {address, uuid}});
  CHECK(f.gauges->of(uuid).celsius == doctest::Approx(2));
  CHECK(!f.gauges->of("GPU-7").celsius);
}

TEST_CASE("It is said why nothing is known") {
  CHECK(has(Fixture("", "/nowhere/libnvidia-ml.so.1").why_not(), "/nowhere/libnvidia-ml.so.1"));
  CHECK(has(Fixture("", "libm.so.6").why_not(), "has no nvmlInit_v2"));
  CHECK(has(Fixture("driver").why_not(), "Driver Not Loaded (9)"));
  CHECK(has(Fixture("other").why_not(), "is GPU GPU-other, not"));
  CHECK(has(Fixture("hang", NVML_DOUBLE, 300).why_not(), "does not answer within 300 ms"));
  CHECK(has(Fixture("crash").why_not(), "crashed"));
}

TEST_CASE("Without GPUs nothing is asked") {
  Fixture f("busy=42;celsius=61");
  f.ask();
  f.gauges->watch({});
  CHECK(!f.gauges->of(uuid).busy);
}

TEST_CASE("What is no answer is none") {
  CHECK(parse_gauges("gauge\tG\t5\t60\n\x04\n")->readings.at("G").celsius == doctest::Approx(60));
  for (const char* text : {"", "gauge\tG\t5\t60\n", "gauge\tG\t101\t60\n\x04\n",
                           "gauge\tG\t5\t\n\x04\n", "gauge\t\t5\t60\n\x04\n", "gauge\tG\n\x04\n",
                           "gauge\tG\t-5\t60\n\x04\n", "\n\x04\n", "none\t\n\x04\n"}) {
    CAPTURE(text);
    CHECK(!parse_gauges(text));
  }
}
