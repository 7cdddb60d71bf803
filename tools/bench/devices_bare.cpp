#include <dlfcn.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "tools/bench/devices.hpp"
#include "tools/bench/pin.hpp"

namespace aios::bench {

namespace {

using Clock = std::chrono::steady_clock;

std::uint64_t nanoseconds(Clock::duration took) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
}

#if defined(__x86_64__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
void add(const float* a, const float* b, float* c, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) c[i] = a[i] + b[i];
}

using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int,
                       float, float*, int);

}  // namespace

std::uint64_t bare_stream_ns(std::uint32_t n, std::uint32_t threads) {
  static std::vector<float> a, b, c;
  a.resize(n, 0.5f);
  b.resize(n, 0.5f);
  c.resize(n, 0.5f);
  std::barrier together(static_cast<std::ptrdiff_t>(threads));
  std::vector<Clock::time_point> begins(threads), ends(threads);
  {
    std::vector<std::jthread> all;
    for (std::uint32_t t = 0; t < threads; ++t)
      all.emplace_back([&, t] {
        pin_to(t);
        const std::size_t from = std::size_t{n} * t / threads;
        const std::size_t to = std::size_t{n} * (t + 1) / threads;
        together.arrive_and_wait();
        begins[t] = Clock::now();
        add(a.data() + from, b.data() + from, c.data() + from, to - from);
        ends[t] = Clock::now();
      });
  }
  return nanoseconds(std::ranges::max(ends) - std::ranges::min(begins));
}

OpenBlas::OpenBlas() {
  // Contexts have no variables: both choose their code by the processor.
  for (const char* name : {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS"})
    ::unsetenv(name);
  void* const library = ::dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;
  set_threads_ = reinterpret_cast<void (*)(int)>(::dlsym(library, "openblas_set_num_threads"));
  if (set_threads_ == nullptr) return;
  set_threads_(1);
  call_ = ::dlsym(library, "cblas_sgemm");
}

std::uint64_t OpenBlas::sgemm_ns(std::uint32_t n, std::uint32_t threads) {
  if (call_ == nullptr) throw std::runtime_error("there is no OpenBLAS");
  const std::size_t all = std::size_t{n} * n;
  a_.resize(all, 0.5f);
  b_.resize(all, 0.5f);
  c_.resize(all, 0.5f);
  const int size = static_cast<int>(n);
  set_threads_(static_cast<int>(threads));
  const Clock::time_point begin = Clock::now();
  reinterpret_cast<Sgemm>(call_)(101, 111, 111, size, size, size, 1, a_.data(), size, b_.data(),
                                 size, 0, c_.data(), size);
  const std::uint64_t took = nanoseconds(Clock::now() - begin);
  set_threads_(1);
  return took;
}

}  // namespace aios::bench
