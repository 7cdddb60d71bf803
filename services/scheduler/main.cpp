// aios-scheduler: wiring only.
#include <string_view>

#include "abi/proto/storage.hpp"
#include "abi/proto/trainer.hpp"
#include "services/scheduler/server/scheduler_server.hpp"

#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server_process.hpp"

namespace {

using namespace aios;

/// The routes that lead to drivers, as far as the manifest has them.
constexpr const char* driver_labels[] = {"cpu", "gpu"};

/// `--policy NAME`
std::string_view policy_name(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; ++i)
    if (argv[i] == std::string_view("--policy")) return argv[i + 1];
  return "learned";
}

Result<int> run(int argc, char** argv) {
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  scheduler::SchedulerServer scheduler(*process.kernel, *process.loop,
                                       TRY(scheduler::make_policy(policy_name(argc, argv))));
  Server<proto::scheduler::Protocol, scheduler::SchedulerServer> server(*process.kernel,
                                                                        *process.loop, scheduler);
  scheduler.answer_through(server);
  for (const char* label : driver_labels)
    if (process.kernel->startup(label))
      scheduler.add_driver(label, TRY(process.client_of(label, proto::driver::Protocol::version)));
  std::unique_ptr<Client> for_trees;
  if (process.kernel->startup("storage")) {
    scheduler.keep_history(TRY(process.client_of("storage", proto::storage::Protocol::version)));
    for_trees = TRY(process.client_of("storage", proto::storage::Protocol::version));
  }
  if (process.kernel->startup("trainer"))
    scheduler.train_trees(TRY(process.client_of("trainer", proto::trainer::Protocol::version)),
                          std::move(for_trees));
  TRY(sandbox::lock_in(*process.kernel, process.require));
  server.guard_by(*TRY(process.in_flight()));
  TRY(server.listen(process.port));
  return process.run();
}

}  // namespace

int main(int argc, char** argv) {
  return server_main(argc, argv, run);
}
