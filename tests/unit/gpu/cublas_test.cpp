// Products of matrices by cuBLAS where it is there: over the doubles of it and of the CUDA driver.
#include "drivers/gpu/cuda/cublas.hpp"

#include <doctest/doctest.h>

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>

#include "tests/unit/gpu/test_support.hpp"

using namespace aios;
using namespace aios::gpu;
using namespace aios::gpu::test;

namespace {

std::vector<conformance::Case> products() {
  auto cases = conformance::standard_cases();
  std::erase_if(cases, [](const auto& c) { return !c.codelet.ends_with("gemm"); });
  return cases;
}

/// How many products the double was asked for.
std::uint64_t calls() {
  void* const library = ::dlopen(CUDA_DOUBLE, RTLD_NOW | RTLD_NOLOAD);
  return reinterpret_cast<std::uint64_t (*)()>(::dlsym(library, "aios_cublas_double_calls"))();
}

/// Runs the cases in a child: how many products cuBLAS did; -1: a result is wrong.
int run_in_child(const char* library, const std::vector<conformance::Case>& cases) {
  return static_cast<signed char>(in_child([&] {
    ::setenv("AIOS_CUBLAS_LIBRARY", library, 1);
    const auto gpu = open_double();
    for (const auto& c : cases)
      if (const std::string wrong = run_case(**gpu, c); !wrong.empty()) {
        std::fprintf(stderr, "%s: %s\n", c.name.c_str(), wrong.c_str());
        return -1;
      }
    return static_cast<int>(calls());
  }));
}

}  // namespace

TEST_CASE("Where cuBLAS is there it does all products of matrices, with the same results") {
  const auto cases = products();
  CHECK(cases.size() > 8);
  CHECK(run_in_child(CUDA_DOUBLE, cases) == static_cast<int>(cases.size()));
}

TEST_CASE("Where it is not, or is something else, the kernels do") {
  CHECK(run_in_child("/nowhere/libcublas.so.12", products()) == 0);
  CHECK(run_in_child("libm.so.6", {products().front()}) == 0);
}

TEST_CASE("What is no product is left to the kernels") {
  auto cases = conformance::standard_cases();
  std::erase_if(cases, [](const auto& c) { return c.codelet != "softmax"; });
  CHECK(run_in_child(CUDA_DOUBLE, cases) == 0);
}

TEST_CASE("A grid that covers only some of the result is left to the kernel") {
  const auto cases = products();
  auto part = *std::ranges::find(cases, "sgemm 65x70x33", &conformance::Case::name);
  part.grid = {1, 1, 1};
  part.expected.clear();
  CHECK(run_in_child(CUDA_DOUBLE, {part}) == 0);
}

TEST_CASE("A buffer that is too small is left to the kernel, which faults") {
  CHECK(in_child([] {
          ::setenv("AIOS_CUBLAS_LIBRARY", CUDA_DOUBLE, 1);
          auto c = products().at(1);
          c.buffers[1].bytes.resize(4);
          const auto gpu = open_double();
          if (run_case(**gpu, c).find("ILLEGAL_ADDRESS") == std::string::npos) return 1;
          return calls() == 0 ? 0 : 2;
        }) == 0);
}
