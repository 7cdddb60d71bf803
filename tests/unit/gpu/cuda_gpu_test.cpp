// The CUDA backend over the double of the driver, which stands in for a GPU.
#include "drivers/gpu/cuda/cuda_gpu.hpp"

#include <doctest/doctest.h>

#include <algorithm>
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

TEST_CASE(
    "A grid or a block with a side that CUDA does not have is refused, and the next one runs") {
  const auto gpu = open_double();
  REQUIRE(gpu);
  auto module = faulty_module();
  // Along y no block may have more than is allowed along z.
  module.kernels[0].block = {1, 1, 65};
  module.kernels[1].block = {1, 65, 1};
  const auto kernels = (*gpu)->compile(module);
  REQUIRE(kernels);
  std::vector<std::byte> memory(4096);
  const auto buffer = (*gpu)->attach(memory, true);
  REQUIRE(buffer);
  const std::uint32_t argument = 0;
  const auto refused = [&](std::size_t kernel, std::array<std::uint32_t, 3> grid,
                           const char* words) {
    const Launch launch{(*kernels)[kernel].get(),
                        grid,
                        std::as_bytes(std::span(&argument, 1)),
                        {{buffer->get(), true, true}}};
    return failed_with((*gpu)->run(launch), Code::invalid_argument, words) == 0;
  };
  CHECK(refused(0, {1, 1, 1}, "beyond are 65 threads deep; CUDA has at most 64"));
  CHECK(refused(1, {1, 65536, 1}, "trap has 1 x 65536 x 1 blocks; CUDA has at most 65535"));
  CHECK(refused(1, {2, 1, 65536}, "trap has 2 x 1 x 65536 blocks; CUDA has at most 65535"));
  CHECK(run_case(**gpu, conformance::standard_cases().front()) == "");
}

namespace {

/// The double, and inputs so large that they come in a stream of their own, of which its first 1024
/// numbers are added: y += x.
class Adding {
 public:
  static constexpr std::size_t numbers = 1u << 18;

  Adding() {
    auto opened = open_double();
    REQUIRE(opened);
    gpu = std::move(*opened);
    auto compiled = gpu->compile(*read_kernel_module(module_image("vector")));
    REQUIRE(compiled);
    kernels_ = std::move(*compiled);
    const auto axpy =
        std::ranges::find_if(kernels_, [](const auto& one) { return one->info.name == "axpy"; });
    REQUIRE(axpy != kernels_.end());
    axpy_ = axpy->get();
  }
  std::unique_ptr<DeviceBuffer> attach(std::vector<float>& memory) const {
    auto made = gpu->attach(std::as_writable_bytes(std::span(memory)), true);
    REQUIRE(made);
    return std::move(*made);
  }
  /// `fetch_x`, `fetch_y`: the host's numbers count.
  std::unique_ptr<Flight> start(DeviceBuffer& x, bool fetch_x, DeviceBuffer& y,
                                bool fetch_y) const {
    static constexpr struct {
      std::uint32_t n;
      float a;
    } arguments{1024, 1};
    auto flight = gpu->start({axpy_,
                              {4, 1, 1},
                              std::as_bytes(std::span(&arguments, 1)),
                              {{&x, fetch_x, false}, {&y, fetch_y, true}}});
    REQUIRE(flight);
    return std::move(*flight);
  }

  std::unique_ptr<Gpu> gpu;

 private:
  std::vector<std::unique_ptr<Kernel>> kernels_;
  Kernel* axpy_ = nullptr;
};

}  // namespace

TEST_CASE("Large inputs that come while kernels run are those that each kernel is to see") {
  const Adding adding;
  std::vector<std::vector<float>> x(3, std::vector<float>(Adding::numbers));
  std::vector<float> y(Adding::numbers);
  std::vector<std::unique_ptr<DeviceBuffer>> on_device;
  for (auto& one : x) on_device.push_back(adding.attach(one));
  const auto sum = adding.attach(y);
  std::vector<std::unique_ptr<Flight>> flights;
  const auto start = [&](std::size_t i, bool copy_in) {
    flights.push_back(adding.start(*on_device[i], copy_in, *sum, flights.empty()));
  };
  float expected = 0;
  for (std::size_t round = 0; round < 30; ++round) {
    // What is on its way to the device must not change.
    if (round >= 3) REQUIRE(adding.gpu->wait(std::move(flights[round - 3])));
    const auto value = static_cast<float>(round + 1);
    std::ranges::fill(x[round % 3], value);
    expected += value;
    start(round % 3, true);
  }
  for (std::size_t i = 27; i < 30; ++i) REQUIRE(adding.gpu->wait(std::move(flights[i])));
  // The first of these is to see what the device had.
  expected += x[0][0] + 1000;
  start(0, false);
  std::ranges::fill(x[0], 1000.0F);
  start(0, true);
  for (std::size_t i = 30; i < 32; ++i) REQUIRE(adding.gpu->wait(std::move(flights[i])));
  CHECK(y[0] == expected);
  CHECK(y[1023] == expected);
  CHECK(y[1024] == 0);
}

TEST_CASE("What comes while kernels run waits for what they bring back of the same bytes") {
  const Adding adding;
  std::vector<float> ones(Adding::numbers, 1), shared(Adding::numbers), out(Adding::numbers);
  const auto one = adding.attach(ones), written = adding.attach(shared),
             read = adding.attach(shared), sum = adding.attach(out);
  read->source_changes();
  std::unique_ptr<Flight> flights[] = {adding.start(*one, true, *written, true),
                                       adding.start(*read, true, *sum, true)};
  for (auto& flight : flights) REQUIRE(adding.gpu->wait(std::move(flight)));
  CHECK(shared[1023] == 1);
  CHECK(out[1023] == 1);
}

TEST_CASE("A launch tells what its copies took, and none where there are none") {
  const auto gpu = open_double();
  REQUIRE(gpu);
  const Times times = copy_both_ways(**gpu).value();
  CHECK(times.in.count == 2);
  CHECK(times.in.bytes == 2 * copied_bytes);
  CHECK(times.in.ns > 0);
  CHECK(times.ahead);
  CHECK(times.out.count == 1);
  CHECK(times.out.bytes == copied_bytes);
  CHECK(times.out.ns > 0);
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
