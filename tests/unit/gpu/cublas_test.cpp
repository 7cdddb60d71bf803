// Products of matrices by cuBLAS where it is there: over the doubles of it and of the CUDA driver.
#include "drivers/gpu/cuda/cublas.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

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
  return ask_double("aios_cublas_double_calls");
}

constexpr std::uint64_t mebi = 1u << 20;
constexpr std::uint64_t workspace_bytes = 4 * mebi;

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

TEST_CASE("It is said of each cuBLAS that could be there why it is not") {
  const auto loaded = cuda::Cublas::load(nullptr);
  if (loaded || loaded.error().code() != Code::not_found) {
    MESSAGE("skipped: this machine has cuBLAS");
    return;
  }
  for (const char* name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"})
    CHECK(loaded.error().message().find(name) != std::string::npos);
}

TEST_CASE(
    "What cuBLAS loads for a first product is loaded with the module, once for each element") {
  CHECK(in_child([] {
          ::setenv("AIOS_CUBLAS_LIBRARY", CUDA_DOUBLE, 1);
          const auto gpu = open_double();
          const auto warm_ups = [] { return ask_double("aios_cublas_double_warm_ups"); };
          const auto cases = products();
          const auto run = [&](const char* codelet) {
            const auto first = std::ranges::find(cases, codelet, &conformance::Case::codelet);
            return run_case(**gpu, *first);
          };
          if (!run("sgemm").empty() || warm_ups() != 1) return 1;
          if (!run("sgemm").empty() || warm_ups() != 1) return 2;
          // That module multiplies both.
          if (!run("half_gemm").empty() || warm_ups() != 3) return 3;
          if (!run("bfloat_gemm").empty() || warm_ups() != 3) return 4;
          return calls() == 4 ? 0 : 5;
        }) == 0);
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

TEST_CASE(
    "A product with more rows than a grid of CUDA's has blocks for is cuBLAS's all the same") {
  constexpr std::uint32_t rows = 65'536 * 64;
  const auto cases = products();
  auto column = *std::ranges::find(cases, "sgemm 1x1x1", &conformance::Case::name);
  column.grid = {1, rows / 64, 1};
  std::memcpy(column.arguments.data(), &rows, sizeof rows);
  for (const std::size_t i : {0, 2}) column.buffers[i].bytes.resize(rows * sizeof(float));
  column.expected.clear();
  CHECK(run_in_child(CUDA_DOUBLE, {column}) == 1);
  CHECK(run_in_child("/nowhere/libcublas.so.12", {column}) == -1);
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

TEST_CASE("What cuBLAS works in is counted as the tenant's memory") {
  CHECK(in_child([] {
          ::setenv("AIOS_CUBLAS_LIBRARY", CUDA_DOUBLE, 1);
          const auto gpu = open_double(workspace_bytes + mebi);
          if (!run_case(**gpu, products().front()).empty() || calls() != 1) return 1;
          if (ask_double("aios_cublas_double_workspace") != workspace_bytes) return 4;
          if ((*gpu)->peak_memory_bytes() < workspace_bytes) return 5;
          std::vector<std::byte> memory(mebi);
          if (!(*gpu)->attach(memory, true)) return 6;
          std::vector<std::byte> more(mebi + 1);
          return failed_with((*gpu)->attach(more, true), Code::no_memory,
                             "4194304 of 5242880 used");
        }) == 0);
}

TEST_CASE("Where the tenant may not have as much, the kernels do without, and it has all it may") {
  CHECK(in_child([] {
          ::setenv("AIOS_CUBLAS_LIBRARY", CUDA_DOUBLE, 1);
          const auto gpu = open_double(mebi);
          if (!run_case(**gpu, products().front()).empty() || calls() != 0) return 1;
          if (ask_double("aios_cublas_double_handles") != 0) return 4;
          std::vector<std::byte> memory(mebi);
          return (*gpu)->attach(memory, true) ? 0 : 5;
        }) == 0);
}

TEST_CASE("Where the device does not have as much, neither") {
  CHECK(in_child([] {
          ::setenv("AIOS_CUBLAS_LIBRARY", CUDA_DOUBLE, 1);
          ::setenv("AIOS_CUDA_DOUBLE", "alloc=1", 1);
          const auto gpu = open_double(workspace_bytes);
          if (!run_case(**gpu, products().front()).empty() || calls() != 0) return 1;
          if (ask_double("aios_cublas_double_handles") != 0) return 4;
          std::vector<std::byte> memory(workspace_bytes);
          return (*gpu)->attach(memory, true) ? 0 : 5;
        }) == 0);
}

TEST_CASE("A cuBLAS too old to be given memory takes its own") {
  CHECK(in_child([] {
          ::setenv("AIOS_CUBLAS_LIBRARY", OLD_CUBLAS, 1);
          const auto gpu = open_double(mebi);
          if (!run_case(**gpu, products().front()).empty() || calls() != 1) return 1;
          return ask_double("aios_cublas_double_workspace") == 0 ? 0 : 4;
        }) == 0);
}
