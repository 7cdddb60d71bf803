// aios-cpu-context: runs the tasks of one tenant. Started by the CPU driver.

#include <charconv>
#include <string_view>

#include "abi/runtime/fault_handler.hpp"
#include "abi/runtime/log.hpp"
#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "drivers/cpu/cpu_backend.hpp"
#include "drivers/device/context_end.hpp"
#include "drivers/device/context_server.hpp"

namespace {

using namespace aios;

/// `--threads N` uses the first N of them.
std::vector<int> chosen_cpus(int argc, char** argv) {
  std::vector<int> cpus = device::usable_cpus();
  for (int i = 1; i + 1 < argc; ++i) {
    if (argv[i] != std::string_view("--threads")) continue;
    const std::string_view text = argv[i + 1];
    std::size_t count = 0;
    std::from_chars(text.data(), text.data() + text.size(), count);
    if (count != 0 && count < cpus.size()) cpus.resize(count);
  }
  return cpus;
}

/// How long it stays without a client: `--lonely-ms`, for tests.
std::uint64_t lonely_ns(int argc, char** argv) {
  std::uint64_t ms = 30'000;
  for (int i = 1; i + 1 < argc; ++i) {
    const std::string_view text = argv[i + 1];
    if (argv[i] == std::string_view("--lonely-ms"))
      std::from_chars(text.data(), text.data() + text.size(), ms);
  }
  return ms * ns_per_ms;
}

Result<int> run(int argc, char** argv) {
  install_fault_handlers("aios-cpu-context", " in a task's code; the context ends");
  const AlternateStack stack;
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  TRY(cpu::preload_libraries());
  const std::vector<int> cpus = chosen_cpus(argc, argv);
  const sandbox::Report confined = TRY(sandbox::lock_in(*process.kernel, process.require));
  cpu::CpuBackend backend(confined.private_folder, static_cast<std::uint32_t>(cpus.size()));
  auto context = TRY(device::ContextServer::create(*process.kernel, *process.loop, cpus, backend));
  Server<proto::context::Protocol, device::ContextServer> server(*process.kernel, *process.loop,
                                                                 *context);
  context->answer_through(server);
  context->end_when_lonely(lonely_ns(argc, argv));
  TRY(server.listen(process.port));
  (void)process.run();
  // Not through destructors: tasks may still be running.
  end_process(device::exit_in_order);
}

}  // namespace

int main(int argc, char** argv) {
  return aios::server_main(argc, argv, run) == 0 ? 0 : device::exit_setup;
}
