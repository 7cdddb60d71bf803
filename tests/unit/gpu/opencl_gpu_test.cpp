// The OpenCL backend, over whatever OpenCL is installed; Debian's PoCL runs on the processor.
#include "drivers/gpu/opencl/opencl_gpu.hpp"

#include <doctest/doctest.h>

#include "tests/unit/gpu/test_support.hpp"

using namespace aios;
using namespace aios::gpu;
using namespace aios::gpu::test;

namespace {

Result<std::unique_ptr<Gpu>> open_first() {
  auto api = TRY(opencl::OpenclApi::load("libOpenCL.so.1"));
  const auto devices = TRY(opencl::discover(*api));
  return opencl::open(std::move(api), devices.front().uuid, 1u << 30);
}

}  // namespace

TEST_CASE("The standard codelets compute on an OpenCL device what they should") {
  const auto gpu = open_first();
  if (!gpu) {
    MESSAGE("skipped: " << gpu.error().to_string());
    return;
  }
  MESSAGE((*gpu)->info().model);
  for (const auto& c : conformance::standard_cases()) {
    CAPTURE(c.name);
    CHECK(run_case(**gpu, c) == "");
  }
}

TEST_CASE("OpenCL C that the driver does not compile is refused with its words") {
  const auto gpu = open_first();
  if (!gpu) {
    MESSAGE("skipped: " << gpu.error().to_string());
    return;
  }
  auto module = read_kernel_module(module_image("vector"));
  REQUIRE(module);
  module->opencl += "\n__kernel void broken(float x) { x = undeclared; }\n";
  const auto refused = (*gpu)->compile(*module);
  REQUIRE(!refused);
  CHECK(refused.error().code() == Code::invalid_argument);
  CHECK(refused.error().message().find("undeclared") != std::string::npos);
}

TEST_CASE("A loader of OpenCL drivers that is missing is not_found") {
  const auto missing = opencl::OpenclApi::load("/nowhere/libOpenCL.so.1");
  REQUIRE(!missing);
  CHECK(missing.error().code() == Code::not_found);
}
