// The OpenCL backend, over whatever OpenCL is installed; Debian's PoCL runs on the processor.
#include "drivers/gpu/opencl/opencl_gpu.hpp"

#include <doctest/doctest.h>

#include <array>

#include "tests/unit/gpu/test_support.hpp"

using namespace aios;
using namespace aios::gpu;
using namespace aios::gpu::test;

namespace {

decltype(&::clGetDeviceInfo) real_device_info = nullptr;

/// Of a device whose memory is its own, whatever it is.
cl_int apart_device_info(cl_device_id device, cl_device_info what, std::size_t bytes, void* value,
                         std::size_t* needed) {
  const cl_int code = real_device_info(device, what, bytes, value, needed);
  if (what == CL_DEVICE_HOST_UNIFIED_MEMORY && value != nullptr)
    *static_cast<cl_bool*>(value) = CL_FALSE;
  return code;
}

void make_apart(opencl::OpenclApi& api) {
  real_device_info = std::exchange(api.clGetDeviceInfo, apart_device_info);
}

/// Programs and kernels that have been made and not given back.
int programs = 0, kernels = 0;
decltype(&::clCreateProgramWithSource) real_create_program = nullptr;
decltype(&::clReleaseProgram) real_release_program = nullptr;
decltype(&::clCreateKernel) real_create_kernel = nullptr;
decltype(&::clReleaseKernel) real_release_kernel = nullptr;

void make_counting(opencl::OpenclApi& api) {
  real_create_program = api.clCreateProgramWithSource;
  api.clCreateProgramWithSource = [](cl_context context, cl_uint count, const char** texts,
                                     const std::size_t* bytes, cl_int* code) {
    cl_program made = real_create_program(context, count, texts, bytes, code);
    if (made != nullptr) ++programs;
    return made;
  };
  real_release_program = api.clReleaseProgram;
  api.clReleaseProgram = [](cl_program program) {
    --programs;
    return real_release_program(program);
  };
  real_create_kernel = api.clCreateKernel;
  api.clCreateKernel = [](cl_program program, const char* name, cl_int* code) {
    cl_kernel made = real_create_kernel(program, name, code);
    if (made != nullptr) ++kernels;
    return made;
  };
  real_release_kernel = api.clReleaseKernel;
  api.clReleaseKernel = [](cl_kernel kernel) {
    --kernels;
    return real_release_kernel(kernel);
  };
}

/// Buffers that the host has, and how often one was written to.
int mapped = 0, written = 0;
decltype(&::clEnqueueMapBuffer) real_map = nullptr;
decltype(&::clEnqueueUnmapMemObject) real_unmap = nullptr;
decltype(&::clEnqueueWriteBuffer) real_write = nullptr;

void make_mapping_counted(opencl::OpenclApi& api) {
  mapped = written = 0;
  real_map = std::exchange(
      api.clEnqueueMapBuffer,
      [](cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_map_flags flags,
         std::size_t offset, std::size_t bytes, cl_uint count, const cl_event* events,
         cl_event* event, cl_int* code) {
        ++mapped;
        return real_map(queue, buffer, blocking, flags, offset, bytes, count, events, event, code);
      });
  real_unmap = std::exchange(api.clEnqueueUnmapMemObject,
                             [](cl_command_queue queue, cl_mem buffer, void* at, cl_uint count,
                                const cl_event* events, cl_event* event) {
                               --mapped;
                               return real_unmap(queue, buffer, at, count, events, event);
                             });
  real_write = std::exchange(
      api.clEnqueueWriteBuffer, [](cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                   std::size_t offset, std::size_t bytes, const void* from,
                                   cl_uint count, const cl_event* events, cl_event* event) {
        ++written;
        return real_write(queue, buffer, blocking, offset, bytes, from, count, events, event);
      });
}

/// The kernel `vector_add` and three buffers for it.
struct Addition {
  static constexpr std::size_t numbers = 1024;
  static Result<Addition> create(Gpu& gpu) {
    Addition made;
    const auto module = TRY(read_kernel_module(module_image("vector")));
    made.kernels = TRY(gpu.compile(module));
    for (const auto& kernel : made.kernels)
      if (kernel->info.name == "vector_add") made.kernel = kernel.get();
    for (auto& memory : made.memory) {
      memory.resize(numbers, 1.5f);
      made.buffers.push_back(TRY(gpu.attach(std::as_writable_bytes(std::span(memory)), true)));
    }
    return made;
  }
  /// Of buffers a and b into the third.
  Launch of(std::size_t a, std::size_t b) const {
    return {kernel,
            {4, 1, 1},
            std::as_bytes(std::span(&count, 1)),
            {{buffers[a].get(), true, false},
             {buffers[b].get(), true, false},
             {buffers[2].get(), false, true}}};
  }
  std::uint32_t count = numbers;
  std::array<std::vector<float>, 3> memory;
  std::vector<std::unique_ptr<Kernel>> kernels;
  std::vector<std::unique_ptr<DeviceBuffer>> buffers;
  Kernel* kernel = nullptr;
};

Result<std::unique_ptr<Gpu>> open_first(void (*change)(opencl::OpenclApi&) = nullptr) {
  auto api = TRY(opencl::OpenclApi::load("libOpenCL.so.1"));
  if (change != nullptr) {
    auto changed = std::make_unique<opencl::OpenclApi>(*api);
    change(*changed);
    api = std::move(changed);
  }
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

TEST_CASE("An OpenCL device with memory of its own computes the same, and tells what copies took") {
  const auto gpu = open_first(make_apart);
  if (!gpu) {
    MESSAGE("skipped: " << gpu.error().to_string());
    return;
  }
  CHECK_FALSE((*gpu)->info().shares_memory);
  for (const auto& c : conformance::standard_cases()) {
    CAPTURE(c.name);
    CHECK(run_case(**gpu, c) == "");
  }
  const Times times = copy_both_ways(**gpu).value();
  CHECK(times.in.count == 2);
  CHECK(times.in.bytes == 2 * copied_bytes);
  CHECK(times.in.ns > 0);
  CHECK_FALSE(times.ahead);
  CHECK(times.out.count == 1);
  CHECK(times.out.bytes == copied_bytes);
  CHECK(times.out.ns > 0);
  CHECK(times.end_ns >= times.start_ns);
}

TEST_CASE("An OpenCL device that shares the host's memory copies nothing") {
  const auto gpu = open_first();
  if (!gpu || !(*gpu)->info().shares_memory) {
    MESSAGE("skipped: no such device");
    return;
  }
  const Times times = copy_both_ways(**gpu).value();
  CHECK((times.in.count == 0 && times.out.count == 0));
}

TEST_CASE("A buffer that a launch uses twice is mapped once, and copied nowhere") {
  const auto gpu = open_first(make_mapping_counted);
  if (!gpu || !(*gpu)->info().shares_memory) {
    MESSAGE("skipped: no such device");
    return;
  }
  {
    const auto addition = Addition::create(**gpu);
    REQUIRE(addition);
    CHECK(mapped == 3);
    for (int round = 0; round < 3; ++round) REQUIRE((*gpu)->run(addition->of(0, 0)));
    CHECK(mapped == 3);
    CHECK(written == 0);
    CHECK(addition->memory[2].front() == 3.0f);
  }
  CHECK(mapped == 0);
}

TEST_CASE("A launch for which an OpenCL device lacks resources is refused, and the next one runs") {
  static decltype(&::clEnqueueNDRangeKernel) real_launch = nullptr;
  static int launches = 0;
  const auto gpu = open_first([](opencl::OpenclApi& api) {
    real_launch = std::exchange(
        api.clEnqueueNDRangeKernel,
        [](cl_command_queue queue, cl_kernel kernel, cl_uint sides, const std::size_t* offsets,
           const std::size_t* threads, const std::size_t* block, cl_uint count,
           const cl_event* events, cl_event* event) {
          if (++launches == 1) return CL_OUT_OF_RESOURCES;
          return real_launch(queue, kernel, sides, offsets, threads, block, count, events, event);
        });
  });
  if (!gpu) {
    MESSAGE("skipped: " << gpu.error().to_string());
    return;
  }
  const auto addition = Addition::create(**gpu);
  REQUIRE(addition);
  CHECK(failed_with((*gpu)->run(addition->of(0, 1)), Code::invalid_argument, "vector_add") == 0);
  CHECK((*gpu)->run(addition->of(0, 1)));
  CHECK(addition->memory[2].front() == 3.0f);
}

TEST_CASE("A kernel that ends badly has crashed, by whatever number its driver calls that") {
  static cl_int end;
  const auto run = [](cl_int code) -> Result<Times> {
    end = code;
    const auto gpu = TRY(open_first([](opencl::OpenclApi& api) {
      api.clWaitForEvents = [](cl_uint, const cl_event*) { return end; };
    }));
    const auto addition = TRY(Addition::create(*gpu));
    return gpu->run(addition.of(0, 1));
  };
  if (const auto usual = run(CL_SUCCESS); !usual) {
    MESSAGE("skipped: " << usual.error().to_string());
    return;
  }
  constexpr cl_int nvidia_illegal_access = -9999;
  for (const cl_int fault : {CL_OUT_OF_RESOURCES, nvidia_illegal_access, CL_INVALID_COMMAND_QUEUE,
                             CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST})
    CHECK(failed_with(run(fault), Code::crashed, "run the kernel") == 0);
  CHECK(failed_with(run(CL_MEM_OBJECT_ALLOCATION_FAILURE), Code::no_memory, "run the kernel") == 0);
  CHECK(failed_with(run(CL_DEVICE_NOT_AVAILABLE), Code::service_down, "run the kernel") == 0);
}

TEST_CASE("A buffer larger than an OpenCL device makes is no_memory") {
  const auto gpu = open_first([](opencl::OpenclApi& api) {
    api.clCreateBuffer = [](cl_context, cl_mem_flags, std::size_t, void*, cl_int* code) -> cl_mem {
      *code = CL_INVALID_BUFFER_SIZE;
      return nullptr;
    };
  });
  if (!gpu) {
    MESSAGE("skipped: " << gpu.error().to_string());
    return;
  }
  std::vector<std::byte> memory(4096);
  CHECK(failed_with((*gpu)->attach(memory, true), Code::no_memory, "make a buffer") == 0);
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

TEST_CASE("An OpenCL program lives no longer than its kernels, and no longer than a failure") {
  const auto gpu = open_first(make_counting);
  if (!gpu) {
    MESSAGE("skipped: " << gpu.error().to_string());
    return;
  }
  auto module = read_kernel_module(module_image("vector"));
  REQUIRE(module);
  {
    const auto compiled = (*gpu)->compile(*module);
    REQUIRE(compiled);
    CHECK(kernels == static_cast<int>(compiled->size()));
  }
  CHECK(kernels == 0);
  CHECK(programs == 0);
  module->kernels.back().name = "nowhere";
  CHECK(!(*gpu)->compile(*module));
  CHECK(kernels == 0);
  CHECK(programs == 0);
  module->opencl += "\n__kernel void broken(float x) { x = undeclared; }\n";
  CHECK(!(*gpu)->compile(*module));
  CHECK(programs == 0);
}

TEST_CASE("A loader of OpenCL drivers that is missing is not_found") {
  const auto missing = opencl::OpenclApi::load("/nowhere/libOpenCL.so.1");
  REQUIRE(!missing);
  CHECK(missing.error().code() == Code::not_found);
}
