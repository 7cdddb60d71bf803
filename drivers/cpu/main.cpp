// aios-cpu: the driver of the processors. Started by the supervisor.

#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "drivers/cpu/sensors.hpp"
#include "drivers/cpu/topology.hpp"
#include "drivers/device/driver_server.hpp"

namespace {

using namespace aios;

/// All processors together are one device.
Result<device::DeviceDescription> describe_processors() {
  const cpu::Topology found = TRY(cpu::discover_topology(cpu::read_machine_id()));
  return device::DeviceDescription{
      .kind = "cpu",
      .backend = "cpu",
      .uuid = found.uuid,
      .model = found.model,
      .cores = found.cores,
      .threads = found.threads,
      .numa_nodes = found.numa_nodes,
      .memory_bytes = found.memory_bytes,
      .cache_bytes = found.cache_bytes,
      .context_arguments = {"--threads", std::to_string(found.threads)}};
}

Result<int> run(int argc, char** argv) {
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  const StartupHandle spawner = TRY(process.kernel->startup("spawner:context"));
  device::DriverServer driver(*process.kernel, *process.loop, spawner.handle, "cpu-context");
  Server<proto::driver::Protocol, device::DriverServer> server(*process.kernel, *process.loop,
                                                               driver);
  driver.answer_through(server);
  cpu::Sensors sensors;
  driver.read_by([&sensors](const device::DeviceDescription&) { return sensors.read(now_ns()); });
  driver.set_devices({TRY(describe_processors())});
  TRY(sandbox::lock_in(*process.kernel, process.require));
  TRY(server.listen(process.port));
  return process.run();
}

}  // namespace

int main(int argc, char** argv) {
  return aios::server_main(argc, argv, run);
}
