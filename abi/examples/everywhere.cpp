// Runs one kernel, written once, on every device of the instance: everywhere MODULE
// MODULE is what `aios-kc everywhere.kc -o everywhere.so` made.
#include <aios/codelet.h>

#include <aios/aios.hpp>
#include <algorithm>
#include <cstdio>
#include <vector>

namespace {

constexpr std::uint32_t numbers = 1000;
constexpr std::uint32_t block = 64;  // of the kernel
constexpr std::uint64_t timeout_ns = 60'000'000'000;

struct Arguments {
  std::uint32_t n;
  std::uint32_t first;
};

/// What device `index` computes. Throws when it does not.
std::vector<std::uint32_t> run_on(const aios_device& device, aios::Instance& instance,
                                  aios::Tenant& tenant, std::uint32_t codelet) {
  const aios::Region region = instance.create_region(numbers * sizeof(std::uint32_t), "steps");
  const std::uint32_t buffer = tenant.buffer(region, aios::Access::write);
  aios::Task task(1, codelet);
  task.device(device.index).grid((numbers + block - 1) / block);
  task.arguments(Arguments{numbers, 1}).buffer(buffer, AIOS_MODE_WRITE);
  tenant.submit(task);
  const auto done = tenant.completions(timeout_ns);
  if (done.empty()) throw aios::Error(AIOS_TIMED_OUT, "the task takes too long");
  if (done[0].status != AIOS_OK)
    throw aios::Error(static_cast<aios_code>(done[0].status), tenant.failure(1));
  tenant.release(buffer);
  const auto steps = region.as<std::uint32_t>().first(numbers);
  return {steps.begin(), steps.end()};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr,
                 "usage: everywhere MODULE, what aios-kc everywhere.kc -o everywhere.so made\n");
    return 2;
  }
  try {
    aios::Instance instance;
    aios::Tenant tenant = instance.tenant(timeout_ns);
    const std::uint32_t collatz = tenant.codelet(argv[1], "collatz");
    std::vector<std::uint32_t> expected;
    for (const aios_device& device : tenant.devices()) {
      const auto steps = run_on(device, instance, tenant, collatz);
      if (expected.empty()) expected = steps;
      const auto most = std::max_element(steps.begin(), steps.end());
      std::printf("%s: %ld takes the most steps, %u%s\n", device.backend, most - steps.begin() + 1,
                  *most, steps == expected ? "" : ", which is wrong");
      if (steps != expected) return 1;
    }
    return expected.empty() ? 1 : 0;
  } catch (const aios::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
