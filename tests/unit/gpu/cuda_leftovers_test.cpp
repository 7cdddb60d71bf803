// What the CUDA backend leaves on the device when something of it fails, and how soon it lets
// things go, over the double of the driver. Each in a process of its own, as in
// cuda_faults_test.cpp.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "drivers/gpu/cuda/cuda_gpu.hpp"
#include "tests/unit/gpu/test_support.hpp"

using namespace aios;
using namespace aios::gpu;
using namespace aios::gpu::test;

namespace {

constexpr std::size_t mebi = 1u << 20;

struct Arguments {
  std::uint32_t n = 16;
  float a = 1;
};

/// y += a x for the first numbers of both, of which what is asked for is copied.
class Axpy {
 public:
  explicit Axpy(Gpu& gpu) : gpu_(gpu) {
    const auto module = read_kernel_module(module_image("vector"));
    kernels_ = gpu.compile(*module).value();
    for (const auto& kernel : kernels_)
      if (kernel->info.name == "axpy") kernel_ = kernel.get();
  }
  Result<std::unique_ptr<Flight>> start(DeviceBuffer& x, DeviceBuffer& y, bool copy_x = true,
                                        std::uint32_t blocks = 1) const {
    return gpu_.start({kernel_,
                       {blocks, 1, 1},
                       std::as_bytes(std::span(&arguments_, 1)),
                       {{&x, copy_x, false}, {&y, true, true}}});
  }
  Result<Times> run(DeviceBuffer& x, DeviceBuffer& y) const { return gpu_.wait(TRY(start(x, y))); }

 private:
  Gpu& gpu_;
  std::vector<std::unique_ptr<Kernel>> kernels_;
  Kernel* kernel_ = nullptr;
  const Arguments arguments_;
};

/// A kernel that never ends.
bool start_endless(Gpu& gpu, DeviceBuffer& buffer) {
  const auto kernels = gpu.compile(faulty_module()).value();
  const std::uint32_t argument = 0;
  Launch launch{
      nullptr, {1, 1, 1}, std::as_bytes(std::span(&argument, 1)), {{&buffer, false, false}}};
  for (const auto& kernel : kernels)
    if (kernel->info.name == "forever") launch.kernel = kernel.get();
  return gpu.start(launch).has_value();
}

/// Memory of a file of its own, which has blocks for what somebody has looked at.
class Looked {
 public:
  explicit Looked(std::size_t bytes) : file_(::memfd_create("input", MFD_CLOEXEC)) {
    if (file_ < 0 || ::ftruncate(file_, static_cast<off_t>(bytes)) != 0) std::abort();
    void* const mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (mapped == MAP_FAILED) std::abort();
    memory_ = {static_cast<std::byte*>(mapped), bytes};
  }
  std::span<std::byte> memory() const { return memory_; }
  bool at() const {
    struct stat now {};
    return ::fstat(file_, &now) == 0 && now.st_blocks != 0;
  }
  void forget() const {
    if (::fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                    static_cast<off_t>(memory_.size())) != 0)
      std::abort();
  }

 private:
  int file_;
  std::span<std::byte> memory_;
};

std::uint64_t events() {
  return ask_double("aios_cuda_double_events");
}

/// The device's memory is freed in its own time.
bool device_memory_becomes(std::uint64_t bytes) {
  ::alarm(20);
  while (ask_double("aios_cuda_double_bytes") != bytes) ::poll(nullptr, 0, 1);
  return true;
}

}  // namespace

TEST_CASE("Launches that the device refuses leave no events behind") {
  CHECK(in_child([] {
          const auto gpu = open_double();
          const Axpy axpy(**gpu);
          std::vector<std::byte> memory(64);
          const auto x = (*gpu)->attach(memory, true).value();
          const auto y = (*gpu)->attach(memory, true).value();
          const auto refused = [&] {
            return failed_with(axpy.start(*x, *y, true, 0), Code::invalid_argument, "axpy");
          };
          if (refused() != 0) return 1;
          const std::uint64_t before = events();
          for (int i = 0; i < 20; ++i)
            if (refused() != 0) return 4;
          return events() == before ? 0 : 5;
        }) == 0);
}

TEST_CASE("When one of a launch's events cannot be made the others are destroyed") {
  CHECK(in_child([] {
          ::setenv("AIOS_CUDA_DOUBLE", "event=4", 1);
          const auto gpu = open_double();
          const Axpy axpy(**gpu);
          std::vector<std::byte> memory(64);
          const auto x = (*gpu)->attach(memory, true).value();
          const auto y = (*gpu)->attach(memory, true).value();
          const std::uint64_t before = events();
          if (failed_with(axpy.start(*x, *y), Code::no_memory, "make an event") != 0) return 1;
          if (events() != before) return 4;
          return axpy.run(*x, *y) ? 0 : 5;
        }) == 0);
}

TEST_CASE("A module that lacks a kernel which it lists does not stay on the device") {
  CHECK(in_child([] {
          const auto gpu = open_double();
          KernelModule module = faulty_module();
          module.kernels.push_back({"missing", {1, 1, 1}, 4, {}});
          if (failed_with((*gpu)->compile(module), Code::not_found, "missing") != 0) return 1;
          return ask_double("aios_cuda_double_modules") == 0 ? 0 : 4;
        }) == 0);
}

TEST_CASE(
    "What a launch has brought before one of its copies was refused is freed with its buffers") {
  CHECK(in_child([] {
          ::setenv("AIOS_CUDA_DOUBLE", "copy=2", 1);
          const auto gpu = open_double();
          const Axpy axpy(**gpu);
          std::vector<std::byte> large(mebi);
          std::vector<std::byte> small(64);
          {
            const auto x = (*gpu)->attach(large, true).value();
            const auto y = (*gpu)->attach(small, true).value();
            if (failed_with(axpy.start(*x, *y), Code::invalid_argument, "copy to the GPU") != 0)
              return 1;
            if (!axpy.run(*x, *y)) return 4;
          }
          return device_memory_becomes(0) ? 0 : 5;
        }) == 0);
}

TEST_CASE("A large input that changed comes while a kernel runs that has nothing to do with it") {
  CHECK(in_child([] {
          const auto gpu = open_double();
          const Axpy axpy(**gpu);
          const Looked input(mebi);
          std::vector<std::byte> memory(64);
          const auto x = (*gpu)->attach(input.memory(), true).value();
          const auto y = (*gpu)->attach(memory, true).value();
          if (!axpy.run(*x, *y)) return 1;
          input.forget();
          if (!start_endless(**gpu, *y) || input.at()) return 4;
          if (!axpy.start(*x, *y)) return 5;
          ::alarm(20);
          while (!input.at()) ::poll(nullptr, 0, 1);
          // Not by the end of what the endless kernel uses.
          ::_exit(0);
        }) == 0);
}

TEST_CASE("Letting an input go does not wait for a kernel that has nothing to do with it") {
  CHECK(in_child([] {
          const auto gpu = open_double();
          const Axpy axpy(**gpu);
          std::vector<std::byte> large(mebi);
          std::vector<std::byte> small(64);
          auto x = (*gpu)->attach(large, true).value();
          const auto y = (*gpu)->attach(small, true).value();
          if (!axpy.run(*x, *y)) return 1;
          const std::uint64_t before = ask_double("aios_cuda_double_bytes");
          if (!start_endless(**gpu, *y)) return 4;
          ::alarm(20);
          x.reset();
          if (device_memory_becomes(before - mebi)) ::_exit(0);
          return 5;
        }) == 0);
}

TEST_CASE("Memory whose place is still being freed is waited for, not refused") {
  CHECK(in_child([] {
          ::setenv("AIOS_CUDA_DOUBLE", "memory=4", 1);
          const auto gpu = open_double();
          const Axpy axpy(**gpu);
          std::vector<std::byte> large(3 * mebi);
          std::vector<std::byte> small(64);
          const auto y = (*gpu)->attach(small, true).value();
          for (int i = 0; i < 20; ++i) {
            auto x = (*gpu)->attach(large, true);
            if (!x) return failed_with(x, Code::no_memory, "never");
            const auto flight = axpy.start(**x, *y);
            if (!flight) return 4;
          }
          return 0;
        }) == 0);
}

TEST_CASE("What was freed is free once that was waited for, by what uses its stream alone") {
  CHECK(in_child([] {
          const auto gpu = open_double();
          const Axpy axpy(**gpu);
          std::vector<std::byte> large(mebi);
          std::vector<std::byte> small(64);
          const auto y = (*gpu)->attach(small, true).value();
          const auto bytes = [] { return ask_double("aios_cuda_double_bytes"); };
          const std::uint64_t before = bytes();
          for (int i = 0; i < 20; ++i) {
            auto x = (*gpu)->attach(large, true).value();
            auto z = (*gpu)->attach(small, true).value();
            if (!axpy.run(*x, *z)) return 1;
            x.reset();
            z.reset();
            (*gpu)->wait_for_freed();
            if (bytes() != before) return 4;
          }
          auto x = (*gpu)->attach(large, true).value();
          if (!start_endless(**gpu, *y)) return 5;
          ::alarm(20);
          x.reset();
          (*gpu)->wait_for_freed();
          if (bytes() != before) return 6;
          ::_exit(0);
        }) == 0);
}
