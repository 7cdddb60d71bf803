// Faults of the CUDA backend's device, over the double of the driver. Each in a process of its own:
// what goes wrong on a device stays wrong there, and this process must not have used one before it
// forks.
#include "drivers/gpu/cuda/cuda_gpu.hpp"

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "drivers/gpu/cuda/cuda_devices.hpp"
#include "tests/unit/gpu/test_support.hpp"

using namespace aios;
using namespace aios::gpu;
using namespace aios::gpu::test;

namespace {

Result<Times> run_faulty(Gpu& gpu, const char* name, std::vector<std::byte>& memory) {
  static const KernelModule module = faulty_module();
  const auto kernels = TRY(gpu.compile(module));
  const auto buffer = TRY(gpu.attach(memory, true));
  const std::uint32_t argument = 0;
  Launch launch{
      nullptr, {1, 1, 1}, std::as_bytes(std::span(&argument, 1)), {{buffer.get(), true, true}}};
  for (const auto& kernel : kernels)
    if (kernel->info.name == name) launch.kernel = kernel.get();
  return gpu.run(launch);
}

/// Runs `body` in a child in which the double has these orders.
int with_orders(const char* orders, const std::function<int()>& body) {
  return in_child([&] {
    ::setenv("AIOS_CUDA_DOUBLE", orders, 1);
    return body();
  });
}

}  // namespace

TEST_CASE("A driver without a device is not_found") {
  CHECK(with_orders("devices=0", [] {
          return failed_with(open_double(), Code::not_found, "no NVIDIA GPU");
        }) == 0);
}

TEST_CASE("A part of a GPU has a uuid that says so") {
  CHECK(with_orders("mig=yes", [] {
          const auto api = cuda::DriverApi::load(CUDA_DOUBLE);
          const auto found = cuda::discover(**api);
          if (!found || found->size() != 1) return 1;
          if (!found->front().uuid.starts_with("MIG-41494f53-")) return 2;
          return cuda::find_device(**api, found->front().uuid) ? 0 : 3;
        }) == 0);
}

TEST_CASE("Memory beyond the limit is no_memory and changes nothing") {
  CHECK(in_child([] {
          std::vector<std::byte> memory(1u << 20);
          std::vector<std::byte> more(1);
          const auto limited = open_double(memory.size());
          {
            const auto first = (*limited)->attach(memory, true);
            if (!first) return 1;
            if (failed_with((*limited)->attach(more, true), Code::no_memory,
                            "1048576 of 1048576 used"))
              return 4;
          }
          if (!(*limited)->attach(memory, true)) return 5;
          return (*limited)->peak_memory_bytes() == memory.size() ? 0 : 6;
        }) == 0);
}

TEST_CASE("Memory beyond the device's is no_memory") {
  CHECK(with_orders("memory=1", [] {
          std::vector<std::byte> large(2u << 20);
          const auto gpu = open_double();
          return failed_with((*gpu)->attach(large, true), Code::no_memory, "OUT_OF_MEMORY");
        }) == 0);
  CHECK(with_orders("alloc=1", [] {
          std::vector<std::byte> small(16);
          const auto gpu = open_double();
          return failed_with((*gpu)->attach(small, true), Code::no_memory, "OUT_OF_MEMORY");
        }) == 0);
}

TEST_CASE("A kernel that stores beyond its memory has crashed, and the device stays lost") {
  CHECK(in_child([] {
          std::vector<std::byte> memory(64);
          const auto gpu = open_double();
          if (failed_with(run_faulty(**gpu, "beyond", memory), Code::crashed, "ILLEGAL_ADDRESS"))
            return 1;
          return failed_with((*gpu)->attach(memory, true), Code::crashed, "ILLEGAL_ADDRESS");
        }) == 0);
}

TEST_CASE("A kernel that traps has crashed") {
  CHECK(in_child([] {
          std::vector<std::byte> memory(64);
          const auto gpu = open_double();
          return failed_with(run_faulty(**gpu, "trap", memory), Code::crashed, "LAUNCH_FAILED");
        }) == 0);
}

TEST_CASE("A launch that the device ends for its time has crashed") {
  CHECK(with_orders("launch=1:702", [] {
          std::vector<std::byte> memory(64);
          const auto gpu = open_double();
          return failed_with(run_faulty(**gpu, "trap", memory), Code::crashed, "LAUNCH_TIMEOUT");
        }) == 0);
}

TEST_CASE("A device that is gone says so in the middle of what it did, and to who looks for it") {
  CHECK(in_child([] {
          char path[] = "/tmp/aios-gone-XXXXXX";
          const int file = ::mkstemp(path);
          ::setenv("AIOS_CUDA_DOUBLE", (std::string("gone=") + path).c_str(), 1);
          std::vector<std::byte> memory(64);
          const auto gpu = open_double();
          ::unlink(path);
          if (!gpu || !(*gpu)->attach(memory, true)) return 4;
          if (::write(file, "!", 1) != 1) return 5;
          if (failed_with((*gpu)->attach(memory, true), Code::service_down, "the GPU is gone"))
            return 6;
          return failed_with(open_double(), Code::not_found, "no NVIDIA GPU");
        }) == 0);
}

TEST_CASE("A large input comes to the device while a kernel before it runs") {
  CHECK(
      in_child([] {
        constexpr std::size_t bytes = 1u << 20;
        // Memory that is made when somebody looks at it.
        const int file = ::memfd_create("input", MFD_CLOEXEC);
        if (file < 0 || ::ftruncate(file, bytes) != 0) return 1;
        void* const mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (mapped == MAP_FAILED) return 1;
        const auto gpu = open_double();
        static const KernelModule module = faulty_module();
        const auto kernels = (*gpu)->compile(module);
        std::vector<std::byte> memory(64);
        const auto small = (*gpu)->attach(memory, true);
        const auto large = (*gpu)->attach({static_cast<std::byte*>(mapped), bytes}, true);
        if (!kernels || !small || !large) return 4;
        const std::uint32_t argument = 0;
        const auto launch = [&](const char* name, DeviceBuffer& buffer) {
          Launch one{
              nullptr, {1, 1, 1}, std::as_bytes(std::span(&argument, 1)), {{&buffer, true, false}}};
          for (const auto& kernel : *kernels)
            if (kernel->info.name == name) one.kernel = kernel.get();
          return (*gpu)->start(one).has_value();
        };
        if (!launch("forever", **small)) return 5;
        struct stat before {};
        if (::fstat(file, &before) != 0 || before.st_blocks != 0) return 6;
        if (!launch("trap", **large)) return 7;
        ::alarm(20);
        for (struct stat now{}; now.st_blocks == 0; ::poll(nullptr, 0, 1))
          if (::fstat(file, &now) != 0) return 8;
        // Not by the end of what the endless kernel uses.
        ::_exit(0);
      }) == 0);
}

TEST_CASE("An endless kernel blocks its process, which can be ended") {
  CHECK(in_child([] {
          std::vector<std::byte> memory(64);
          const auto gpu = open_double();
          ::alarm(1);
          (void)run_faulty(**gpu, "forever", memory);
          return 0;
        }) == 128 + SIGALRM);
}
