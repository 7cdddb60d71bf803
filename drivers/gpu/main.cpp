// aios-gpu: the driver of GPUs, whatever their vendor. Started by the supervisor.

#include <charconv>
#include <string_view>

#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "drivers/gpu/look/device_watch.hpp"
#include "drivers/gpu/open_gpu.hpp"

namespace {

using namespace aios;

struct Options {
  std::vector<std::string> environment;  ///< for the prober and for contexts
  /// A library that hangs does so for ever; one that compiles at its first start takes seconds.
  unsigned probe_limit_s = 20;
  std::uint64_t memory_mib = 0;  ///< of each device's memory, at most; 0: all
};

Options read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; ++i) {
    const std::string_view value = argv[i + 1];
    if (argv[i] == std::string_view("--environment")) options.environment.emplace_back(value);
    if (argv[i] == std::string_view("--probe-limit-s"))
      std::from_chars(value.data(), value.data() + value.size(), options.probe_limit_s);
    if (argv[i] == std::string_view("--memory-mib"))
      std::from_chars(value.data(), value.data() + value.size(), options.memory_mib);
  }
  return options;
}

Result<int> run(int argc, char** argv) {
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  const StartupHandle spawner = TRY(process.kernel->startup("spawner:context"));
  const Options options = read_options(argc, argv);
  for (const std::string& assignment : options.environment) TRY(gpu::set_environment(assignment));
  device::DriverServer driver(*process.kernel, *process.loop, spawner.handle, "gpu-context");
  gpu::DeviceWatch watch(*process.loop, driver, options.environment, options.memory_mib << 20);
  TRY(watch.start(options.probe_limit_s));
  Server<proto::driver::Protocol, device::DriverServer> server(*process.kernel, *process.loop,
                                                               driver);
  driver.answer_through(server);
  TRY(sandbox::lock_in(*process.kernel, process.require));
  TRY(server.listen(process.port));
  return process.run();
}

}  // namespace

int main(int argc, char** argv) {
  return aios::server_main(argc, argv, run);
}
