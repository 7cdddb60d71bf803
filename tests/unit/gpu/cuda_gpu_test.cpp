// The CUDA backend over the double of the driver, which stands in for a GPU.
#include "drivers/gpu/cuda/cuda_gpu.hpp"

#include <doctest/doctest.h>

#include <cstdio>

#include "drivers/gpu/cuda/cuda_devices.hpp"
#include "tests/unit/gpu/test_support.hpp"

using namespace aios;
using namespace aios::gpu;
using namespace aios::gpu::test;

TEST_CASE("The double calls itself an emulator") {
  const auto api = cuda::DriverApi::load(CUDA_DOUBLE);
  REQUIRE_MESSAGE(api, api.error().message());
  const auto devices = cuda::discover(**api);
  REQUIRE(devices);
  REQUIRE(devices->size() == 1);
  CHECK(devices->front().emulated);
  CHECK(devices->front().model == "AIOS CUDA emulator (no GPU)");
  CHECK(devices->front().backend == "cuda");
}

TEST_CASE("The standard codelets compute on the emulated CUDA device what they should") {
  const auto gpu = open_double();
  REQUIRE_MESSAGE(gpu, gpu.error().message());
  for (const auto& c : conformance::standard_cases()) {
    CAPTURE(c.name);
    CHECK(run_case(**gpu, c) == "");
  }
}

TEST_CASE("A wrong result is found") {
  const auto gpu = open_double();
  REQUIRE(gpu);
  auto cases = conformance::standard_cases();
  cases[0].buffers[0].bytes[3] ^= std::byte{0x40};
  CHECK(run_case(**gpu, cases[0]) != "");
}

TEST_CASE("A library that is missing or is no driver is not_found") {
  const auto missing = cuda::DriverApi::load("/nowhere/libcuda.so.1");
  CHECK(failed_with(missing, Code::not_found, "/nowhere/libcuda.so.1") == 0);
  const auto other = cuda::DriverApi::load("libm.so.6");
  CHECK(failed_with(other, Code::not_found, "has no cuGetProcAddress") == 0);
}

TEST_CASE("PTX that the driver does not compile is refused with its words") {
  const auto gpu = open_double();
  REQUIRE(gpu);
  KernelModule module = faulty_module();
  module.ptx.replace(module.ptx.find("trap;"), 5, "nonsense;");
  CHECK(failed_with((*gpu)->compile(module), Code::invalid_argument,
                    "unknown instruction nonsense") == 0);
  module.ptx.clear();
  CHECK(failed_with((*gpu)->compile(module), Code::invalid_argument, "no PTX") == 0);
}
