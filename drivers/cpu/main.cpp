// aios-cpu: the driver of the processors. Started by the supervisor.

#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "drivers/cpu/cpu_server.hpp"
#include "drivers/cpu/topology.hpp"

namespace {

aios::Result<int> run(int argc, char** argv) {
  using namespace aios;
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  const StartupHandle spawner = TRY(process.kernel->startup("spawner:context"));
  cpu::CpuServer driver(*process.kernel, *process.loop, spawner.handle,
                        TRY(cpu::discover_topology(cpu::read_machine_id())));
  Server<proto::driver::Protocol, cpu::CpuServer> server(*process.kernel, *process.loop, driver);
  driver.answer_through(server);
  driver.adopt();
  TRY(sandbox::lock_in(*process.kernel, process.require));
  TRY(server.listen(process.port));
  return process.run();
}

}  // namespace

int main(int argc, char** argv) {
  return aios::server_main(argc, argv, run);
}
