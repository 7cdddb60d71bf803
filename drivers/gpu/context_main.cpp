// aios-gpu-context: runs the tasks of one tenant on one GPU, or, with `--role memory`, owns device
// memory for that one. Started by the GPU driver.

#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include "abi/runtime/fault_handler.hpp"
#include "abi/runtime/log.hpp"
#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "drivers/device/context_end.hpp"
#include "drivers/device/context_server.hpp"
#include "drivers/gpu/gpu_backend.hpp"
#include "drivers/gpu/memory/memory_owner.hpp"
#include "drivers/gpu/memory/owner_link.hpp"
#include "drivers/gpu/open_gpu.hpp"

namespace {

using namespace aios;

/// How long it stays without a client.
constexpr std::uint64_t lonely_ns = 30 * ns_per_s;
/// For how long it waits for who owns its memory. One that is already there answers at once;
/// nothing is lost with one that opens the device more slowly than this context, or not at all.
constexpr std::uint64_t owner_limit_ns = 2 * ns_per_s;

struct Options {
  std::string backend;
  std::string uuid;
  std::uint64_t memory_bytes = 0;
  bool owns_memory = false;
};

Result<Options> read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; ++i) {
    const std::string_view name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--backend") options.backend = value;
    if (name == "--uuid") options.uuid = value;
    if (name == "--memory")
      std::from_chars(value.data(), value.data() + value.size(), options.memory_bytes);
    if (name == "--role") options.owns_memory = value == "memory";
    if (name == "--environment") TRY(gpu::set_environment(value));
  }
  return options;
}

/// Compilers of OpenCL drivers keep what they made in this context's own folder, and run a linker.
/// CUDA would set up every GPU that it sees, which takes seconds where they are many.
void prepare_libraries(const std::string& folder, const Options& options) {
  if (options.backend == "cuda") ::setenv("CUDA_VISIBLE_DEVICES", options.uuid.c_str(), 1);
  ::setenv("PATH", "/usr/bin:/bin", 1);
  for (const char* name : {"POCL_CACHE_DIR", "HOME", "TMPDIR", "XDG_CACHE_HOME"})
    ::setenv(name, folder.c_str(), 1);
  ::setenv("CUDA_CACHE_DISABLE", "1", 1);
}

Result<int> run_tasks(ServerProcess& process, gpu::Library library, const Options& options) {
  const auto memory = process.kernel->startup("memory");
  gpu::KeptMemory kept;
  gpu::GpuBackend backend(TRY(
      gpu::open(std::move(library), options.uuid, options.memory_bytes, memory ? &kept : nullptr)));
  auto context = TRY(device::ContextServer::create_queue(*process.kernel, *process.loop,
                                                         gpu::launches_in_flight, backend));
  Server<proto::context::Protocol, device::ContextServer> server(*process.kernel, *process.loop,
                                                                 *context);
  context->answer_through(server);
  context->end_when_lonely(lonely_ns);
  std::optional<gpu::OwnerLink> owner;
  if (memory) {
    owner.emplace(*process.kernel, *process.loop, memory->handle, kept);
    // The first tasks shall find what the context before has left.
    owner->connect(owner_limit_ns, [&] { (void)server.listen(process.port); });
  } else {
    TRY(server.listen(process.port));
  }
  (void)process.run();
  // Not through destructors: tasks may still be running.
  end_process(device::exit_in_order);
}

Result<int> own_memory(ServerProcess& process, gpu::Library library, const Options& options) {
  const auto maker = TRY(gpu::open_memory(std::move(library), options.uuid));
  const auto owner =
      TRY(gpu::MemoryOwner::create(*process.kernel, *process.loop, *maker, options.memory_bytes));
  Server<proto::memory::Protocol, gpu::MemoryOwner> server(*process.kernel, *process.loop, *owner);
  owner->end_when_unused(lonely_ns);
  TRY(server.listen(process.port));
  (void)process.run();
  return device::exit_in_order;
}

Result<int> run(int argc, char** argv) {
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  const Options options = TRY(read_options(argc, argv));
  if (!options.owns_memory)
    install_fault_handlers("aios-gpu-context", " in a task's code; the context ends");
  const AlternateStack stack;
  gpu::Library library = TRY(gpu::load(options.backend));
  // Before the vendor's library has threads.
  const sandbox::Report confined =
      TRY(sandbox::lock_in(*process.kernel, process.require, {}, options.backend == "cuda"));
  prepare_libraries(confined.private_folder.empty() ? "/tmp" : confined.private_folder, options);
  if (options.owns_memory) return own_memory(process, std::move(library), options);
  return run_tasks(process, std::move(library), options);
}

}  // namespace

int main(int argc, char** argv) {
  const int code = aios::server_main(argc, argv, run);
  return code == device::exit_in_order ? code : device::exit_setup;
}
