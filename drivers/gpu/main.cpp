// aios-gpu: the driver of GPUs, whatever their vendor. Started by the supervisor.

#include <string_view>

#include "abi/runtime/log.hpp"
#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "drivers/device/driver_server.hpp"
#include "drivers/gpu/open_gpu.hpp"
#include "drivers/gpu/probe.hpp"

namespace {

using namespace aios;

/// A driver that hangs does so for ever; one that compiles at its first start takes seconds.
constexpr unsigned probe_limit_s = 20;

/// The values of `--environment`: for the probe and for contexts.
std::vector<std::string> environment_of(int argc, char** argv) {
  std::vector<std::string> assignments;
  for (int i = 1; i + 1 < argc; ++i)
    if (argv[i] == std::string_view("--environment")) assignments.emplace_back(argv[i + 1]);
  return assignments;
}

device::DeviceDescription describe(const gpu::DeviceInfo& info,
                                   const std::vector<std::string>& environment) {
  device::DeviceDescription made{
      .kind = info.kind,
      .backend = info.backend,
      .uuid = info.uuid,
      .model = info.model,
      .cores = info.multiprocessors,
      .threads = gpu::launches_at_once,
      .emulated = info.emulated,
      .memory_bytes = info.memory_bytes,
      .context_arguments = {"--backend", info.backend, "--uuid", info.uuid, "--memory",
                            std::to_string(info.memory_bytes)}};
  for (const std::string& assignment : environment) {
    made.context_arguments.emplace_back("--environment");
    made.context_arguments.push_back(assignment);
  }
  return made;
}

Result<int> run(int argc, char** argv) {
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  const StartupHandle spawner = TRY(process.kernel->startup("spawner:context"));
  const std::vector<std::string> environment = environment_of(argc, argv);
  for (const std::string& assignment : environment) TRY(gpu::set_environment(assignment));
  device::DriverServer driver(*process.kernel, *process.loop, spawner.handle, "gpu-context");
  const auto probe = TRY(gpu::Probe::start(
      *process.loop, probe_limit_s,
      [&](const std::vector<gpu::DeviceInfo>& found, const std::vector<std::string>& notes) {
        for (const std::string& note : notes) log_line(note);
        std::vector<device::DeviceDescription> devices;
        for (const gpu::DeviceInfo& info : found) devices.push_back(describe(info, environment));
        log_line("devices found: " + std::to_string(devices.size()));
        driver.set_devices(std::move(devices));
      }));
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
