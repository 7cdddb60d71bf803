// aios-mapreduce: wiring only.
#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "services/mapreduce/mapreduce_server.hpp"

namespace {

using namespace aios;

Result<int> run(int argc, char** argv) {
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  const Handle tasks = TRY(process.kernel->startup("scheduler")).handle;
  const Handle storage = TRY(process.kernel->startup("storage")).handle;
  mapreduce::MapReduceServer server(*process.kernel, *process.loop, tasks, storage);
  TRY(sandbox::lock_in(*process.kernel, process.require));
  TRY(server.listen(process.port));
  return process.run();
}

}  // namespace

int main(int argc, char** argv) {
  return server_main(argc, argv, run);
}
