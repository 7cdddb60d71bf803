#include "tests/unit/gpu/test_support.hpp"

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <map>

#include "abi/include/aios/codelet.h"
#include "drivers/gpu/cuda/cuda_devices.hpp"
#include "drivers/gpu/cuda/cuda_gpu.hpp"

namespace aios::gpu::test {

std::vector<std::byte> module_image(const std::string& name) {
  std::ifstream file(CODELET_FOLDER "/" + name + ".so", std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const auto raw = std::as_bytes(std::span(bytes));
  return {raw.begin(), raw.end()};
}

Result<std::unique_ptr<Gpu>> open_double(std::uint64_t limit_bytes) {
  auto api = TRY(cuda::DriverApi::load(CUDA_DOUBLE));
  const auto devices = TRY(cuda::discover(*api));
  return cuda::open(std::move(api), devices.front().uuid, limit_bytes, nullptr);
}

std::uint64_t ask_double(const char* function) {
  void* const library = ::dlopen(CUDA_DOUBLE, RTLD_NOW | RTLD_NOLOAD);
  return reinterpret_cast<std::uint64_t (*)()>(::dlsym(library, function))();
}

std::string run_case(Gpu& gpu, const conformance::Case& c) {
  const auto module = read_kernel_module(module_image(c.module));
  if (!module) return module.error().to_string();
  const auto kernels = gpu.compile(*module);
  if (!kernels) return kernels.error().to_string();
  Launch launch{nullptr, c.grid, c.arguments, {}};
  for (const auto& kernel : *kernels)
    if (kernel->info.name == c.codelet) launch.kernel = kernel.get();
  if (launch.kernel == nullptr) return "no such kernel";
  auto buffers = c.buffers;
  std::vector<std::unique_ptr<DeviceBuffer>> attached;
  for (auto& buffer : buffers) {
    auto made = gpu.attach(buffer.bytes, buffer.mode != AIOS_MODE_READ);
    if (!made) return made.error().to_string();
    launch.buffers.push_back(
        {made->get(), (buffer.mode & AIOS_MODE_READ) != 0, (buffer.mode & AIOS_MODE_WRITE) != 0});
    attached.push_back(std::move(*made));
  }
  const auto times = gpu.run(launch);
  if (!times) return times.error().to_string();
  if (times->end_ns < times->start_ns) return "it ended before it began";
  for (const auto& expected : c.expected)
    if (auto wrong = conformance::difference(expected, buffers[expected.buffer].bytes);
        !wrong.empty())
      return wrong;
  return {};
}

Result<Times> copy_both_ways(Gpu& gpu) {
  const auto module = TRY(read_kernel_module(module_image("vector")));
  const auto kernels = TRY(gpu.compile(module));
  const std::uint32_t count = 1024;
  Launch launch{nullptr, {4, 1, 1}, std::as_bytes(std::span(&count, 1)), {}};
  for (const auto& kernel : kernels)
    if (kernel->info.name == "vector_add") launch.kernel = kernel.get();
  std::vector<std::vector<std::byte>> memory(3, std::vector<std::byte>(copied_bytes));
  std::vector<std::unique_ptr<DeviceBuffer>> buffers;
  for (auto& bytes : memory) {
    buffers.push_back(TRY(gpu.attach(bytes, true)));
    const bool in = buffers.size() <= 2;
    launch.buffers.push_back({buffers.back().get(), in, !in});
  }
  return gpu.run(launch);
}

int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

const char* const faulty_ptx = R"(.version 6.3
.target sm_70
.address_size 64
.visible .entry beyond(
	.param .align 4 .b8 beyond_param_0[4],
	.param .u64 beyond_param_1
)
{
	ld.param.u64 	%rd1, [beyond_param_1];
	mov.u32 	%r1, 1;
	st.global.u32 	[%rd1+1073741824], %r1;
	ret;
}
.visible .entry trap(
	.param .align 4 .b8 trap_param_0[4],
	.param .u64 trap_param_1
)
{
	trap;
}
.visible .entry forever(
	.param .align 4 .b8 forever_param_0[4],
	.param .u64 forever_param_1
)
{
$again:
	bra.uni 	$again;
}
)";

KernelModule faulty_module() {
  KernelModule module;
  for (const char* name : {"beyond", "trap", "forever"})
    module.kernels.push_back({name, {1, 1, 1}, 4, {AIOS_MODE_READ_WRITE}});
  module.ptx = faulty_ptx;
  return module;
}

}  // namespace aios::gpu::test
