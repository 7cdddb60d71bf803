// Device memory made without a context, handed on and mapped: over the double of the driver.
#include "drivers/gpu/cuda/cuda_memory.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "drivers/gpu/cuda/cuda_devices.hpp"

using namespace aios;
using namespace aios::gpu;
using namespace aios::gpu::cuda;

namespace {

struct Fixture {
  Fixture() {
    REQUIRE(api);
    const auto devices = discover(**api);
    REQUIRE(devices);
    uuid = devices->front().uuid;
    exports = devices->front().exports_memory;
    auto made = open_memory(*DriverApi::load(CUDA_DOUBLE), uuid);
    REQUIRE_MESSAGE(made, made.error().message());
    maker = std::move(*made);
    REQUIRE((*api)->context_retain(&context, 0) == cuda::Code::success);
    REQUIRE((*api)->context_set(context) == cuda::Code::success);
    REQUIRE((*api)->stream_create(&stream, stream_non_blocking, 0) == cuda::Code::success);
  }
  MappedMemory map(MemoryMaker::Number made) {
    const auto shared = maker->share(made);
    REQUIRE(shared);
    auto mapped = MappedMemory::map(**api, 0, *shared, bytes);
    REQUIRE_MESSAGE(mapped, mapped.error().message());
    return std::move(*mapped);
  }

  Result<std::unique_ptr<const DriverApi>> api = DriverApi::load(CUDA_DOUBLE);
  std::string uuid;
  bool exports = false;
  std::unique_ptr<MemoryMaker> maker;
  Context context = nullptr;
  Stream stream = nullptr;
  std::uint64_t bytes = 0;
};

}  // namespace

TEST_CASE("What is written to memory of the GPU is there when it is mapped again") {
  Fixture f;
  CHECK(f.exports);
  f.bytes = f.maker->granularity();
  const auto made = f.maker->make(f.bytes);
  REQUIRE(made);
  std::vector<std::byte> written(1000, std::byte{7});
  std::vector<std::byte> read(1000);
  {
    const MappedMemory mapped = f.map(*made);
    REQUIRE((*f.api)->copy_to_device(mapped.address(), written.data(), 1000, f.stream) ==
            cuda::Code::success);
    REQUIRE((*f.api)->stream_synchronize(f.stream) == cuda::Code::success);
  }
  const MappedMemory again = f.map(*made);
  // Who made it may have let go of it.
  f.maker->release(*made);
  REQUIRE((*f.api)->copy_to_host(read.data(), again.address(), 1000, f.stream) ==
          cuda::Code::success);
  REQUIRE((*f.api)->stream_synchronize(f.stream) == cuda::Code::success);
  CHECK(read == written);
}

TEST_CASE("Memory that is not mapped any more is no place to copy to") {
  Fixture f;
  f.bytes = f.maker->granularity();
  const auto made = f.maker->make(f.bytes);
  REQUIRE(made);
  DevicePointer address = 0;
  {
    const MappedMemory mapped = f.map(*made);
    address = mapped.address();
  }
  std::byte byte{};
  CHECK((*f.api)->copy_to_device(address, &byte, 1, f.stream) == cuda::Code::invalid_value);
  f.maker->release(*made);
}

TEST_CASE("More memory than the GPU has is no_memory, and an odd size is refused") {
  Fixture f;
  CHECK(f.maker->make(f.maker->granularity() << 20).error().code() == aios::Code::no_memory);
  CHECK(f.maker->make(f.maker->granularity() + 1).error().code() == aios::Code::invalid_argument);
}

TEST_CASE("What is no memory of a GPU is not mapped") {
  Fixture f;
  const Fd none(-1);
  const auto mapped = MappedMemory::map(**f.api, 0, none, f.maker->granularity());
  CHECK(mapped.error().code() == aios::Code::invalid_argument);
}

TEST_CASE("Memory of a GPU that is not there is not_found") {
  CHECK(open_memory(*DriverApi::load(CUDA_DOUBLE), "GPU-none").error().code() ==
        aios::Code::not_found);
}
