// aios-echo: answers what it is sent.
#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "services/echo/echo_server.hpp"

namespace {

aios::Result<int> run(int argc, char** argv) {
  aios::ServerProcess process = TRY(aios::ServerProcess::start(argc, argv));
  aios::echo::EchoServer server(*process.kernel, *process.loop);
  TRY(aios::sandbox::lock_in(*process.kernel, process.require));
  server.guard_by(*TRY(process.in_flight()));
  TRY(server.listen(process.port));
  return process.run();
}

}  // namespace

int main(int argc, char** argv) {
  return aios::server_main(argc, argv, run);
}
