// aios-trainer: wiring only.
#include <string>

#include "abi/runtime/log.hpp"
#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "services/scheduler/trainer/trainer_server.hpp"
#include "services/scheduler/trainer/xgboost.hpp"

namespace {

using namespace aios;

/// `--library FILE`: another than the one that Debian installs.
const char* library_of(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; ++i)
    if (std::string_view(argv[i]) == "--library") return argv[i + 1];
  return nullptr;
}

Result<int> run(int argc, char** argv) {
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  auto booster = scheduler::trainer::load_xgboost(library_of(argc, argv));
  if (!booster) log_line("no trees will be trained: " + booster.error().to_string());
  scheduler::trainer::TrainerServer trainer(*process.kernel, *process.loop, std::move(booster));
  TRY(sandbox::lock_in(*process.kernel, process.require));
  TRY(trainer.prepare());
  trainer.guard_by(*TRY(process.in_flight()));
  TRY(trainer.listen(process.port));
  return process.run();
}

}  // namespace

int main(int argc, char** argv) {
  return server_main(argc, argv, run);
}
