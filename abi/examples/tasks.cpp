// Submits two tasks, the second after the first, and waits for both: tasks MODULE
// MODULE is scale_module.so.
#include <aios/codelet.h>

#include <aios/aios.hpp>
#include <cstdio>
#include <numeric>
#include <vector>

namespace {

constexpr std::size_t numbers = 1000;
constexpr std::uint64_t timeout_ns = 20'000'000'000;

void wait_for(aios::Tenant& tenant, std::size_t count) {
  while (count != 0) {
    const auto completions = tenant.completions(timeout_ns);
    if (completions.empty()) throw aios::Error(AIOS_TIMED_OUT, "the tasks take too long");
    for (const aios_completion& done : completions) {
      const std::string why = done.status == AIOS_OK ? "" : tenant.failure(done.tag);
      std::printf("task %llu: %s %s\n", static_cast<unsigned long long>(done.tag),
                  aios_code_name(static_cast<aios_code>(done.status)), why.c_str());
      --count;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tasks MODULE, which is scale_module.so\n");
    return 2;
  }
  try {
    aios::Instance instance;
    aios::Tenant tenant = instance.tenant(timeout_ns);
    const std::uint32_t scale = tenant.codelet(argv[1], "scale");
    const aios::Region region = instance.create_region(numbers * sizeof(double), "numbers");
    const auto values = region.as<double>().first(numbers);
    std::iota(values.begin(), values.end(), 0.0);
    const std::uint32_t buffer = tenant.buffer(region, 0, values.size_bytes(), aios::Access::write);
    std::vector<aios::Task> tasks;
    for (const std::uint64_t tag : {1, 2}) {
      const double factor = tag == 1 ? 2.0 : 0.5;
      tasks.emplace_back(tag, scale);
      tasks.back().grid(4).buffer(buffer, AIOS_MODE_READ_WRITE).arguments(factor);
    }
    tasks[1].after(1);
    tenant.submit(tasks);
    wait_for(tenant, tasks.size());
    std::printf("the last number is %.0f\n", values.back());
  } catch (const aios::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
