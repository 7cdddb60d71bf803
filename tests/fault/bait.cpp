// fault-bait: calls the servers whose code the campaign changes, so that they have something to do,
// and believes nothing that they answer. It must neither crash nor hang, whatever they do: it ends
// with 3 and a word about it when a call has no end.
//
//   fault-bait SOCKET TASK_MODULE JOB_MODULE FOLDER
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <thread>

#include "abi/lib/mapreduce/client.hpp"
#include "abi/lib/storage_client.hpp"
#include "abi/lib/task_client.hpp"
#include "abi/proto/echo.hpp"
#include "tests/support/test_instance.hpp"

namespace {

using namespace aios;
using test::Visitor;

constexpr std::uint64_t call_timeout_ns = 300 * ns_per_ms;
/// mapreduce_client gives each of its calls ten seconds.
constexpr std::uint64_t job_limit_ns = 60 * ns_per_s;
constexpr std::uint64_t call_limit_ns = 10 * ns_per_s;
constexpr const char* bait_job = "bait";

std::string socket_path;
std::string task_module;
std::string job_module;
std::string folder;

void rest(std::uint64_t duration_ns) {
  const timespec pause{0, static_cast<long>(duration_ns)};
  ::nanosleep(&pause, nullptr);
}

Deadline soon() {
  return Deadline::after(call_timeout_ns);
}

/// Repeats something; each round has a limit, which is many times what its calls may take.
struct Lure {
  const char* name;
  std::uint64_t limit_ns;
  std::function<Result<void>()> round;
  std::atomic<std::uint64_t> began_ns{0};
};

Result<std::unique_ptr<Visitor>> attach() {
  return std::make_unique<Visitor>(
      TRY(Kernel::attach(socket_path, {.job_name = bait_job, .quota = {}})));
}

Result<void> lure_echo() {
  const auto visitor = TRY(attach());
  const auto client = TRY(visitor->client<proto::echo::Protocol>("m-echo"));
  for (int i = 0; i < 200; ++i) {
    (void)client->call<proto::echo::Echo>({}, soon());
    rest(300 * ns_per_us);
  }
  return {};
}

Result<void> lure_storage() {
  const auto visitor = TRY(attach());
  StorageClient storage(TRY(visitor->client<proto::storage::Protocol>("m-storage")));
  const Region region = TRY(Region::create(visitor->kernel(), 128u << 10, "bait"));
  for (std::uint64_t i = 0; i < 60; ++i) {
    const std::string name = "bait/" + std::to_string(i % 10);
    const std::uint64_t bytes = i % 3 == 0 ? region.size() : 1000 * i;
    (void)storage.put(name, {region, true, 0, bytes}, soon());
    (void)storage.get(name, 0, 0, {region, true, 0, region.size()}, soon());
    (void)storage.rename(name, name + "-other", soon());
    bool more = false;
    (void)storage.list("bait/", "", {region, true, 0, 4096}, more, soon());
    (void)storage.remove(name + "-other", soon());
  }
  return {};
}

/// Through a scheduler: the one that is changed, or the sound one, with contexts that are changed.
Result<void> lure_tasks(const char* scheduler) {
  const auto visitor = TRY(attach());
  Kernel& kernel = visitor->kernel();
  TaskLink link(kernel, nullptr, TRY(kernel.startup(scheduler)).handle);
  TaskTenant tenant(link);
  TRY(wait_for<void>(link, [&](auto done) { tenant.open(kernel.job(), soon(), std::move(done)); }));
  std::ifstream file(task_module, std::ios::binary);
  const std::string module{std::istreambuf_iterator<char>(file), {}};
  const Region region = TRY(module_region(kernel, std::as_bytes(std::span(module))));
  const auto codelet = TRY(wait_for<std::uint32_t>(link, [&](auto done) {
    tenant.register_codelet(region.handle(), 0, module.size(), "count", "count",
                            proto::driver::backend::cpu, soon(), std::move(done));
  }));
  std::uint64_t tag = 0;
  for (int i = 0; i < 100; ++i) {
    std::array<proto::scheduler::TaskRecord, 4> tasks;
    for (auto& task : tasks) {
      task = make_task(++tag, codelet);
      task.limit_ns = call_timeout_ns;
      task.grid[0] = 8;
    }
    TRY(wait_for<void>(link, [&](auto done) { tenant.submit(tasks, soon(), std::move(done)); }));
    TRY(wait_for<TaskTenant::Completions>(
        link, [&](auto done) { tenant.completions(soon(), std::move(done)); }));
    rest(500 * ns_per_us);
  }
  return {};
}

Result<void> lure_job() {
  const auto visitor = TRY(attach());
  std::filesystem::remove_all(folder + "/bait-output");
  const mapreduce_client::Options options{.label = "bait",
                                          .module_path = job_module,
                                          .arguments = {},
                                          .inputs = {folder + "/bait-input"},
                                          .output = folder + "/bait-output",
                                          .threads = 2,
                                          .memory_bytes = 16u << 20};
  const Deadline end = Deadline::after(2 * ns_per_s);
  TRY(mapreduce_client::run(visitor->kernel(), TRY(visitor->kernel().startup("m-mapreduce")).handle,
                            options, [end](const auto&, std::uint64_t) { return !end.passed(); }));
  return {};
}

void write_input() {
  std::ofstream input(folder + "/bait-input");
  for (int i = 0; i < 4000; ++i) input << "w" << i * 7919 % 101 << (i % 8 == 7 ? "\n" : " ");
}

/// Never returns but at a hang.
int watch(std::span<Lure> lures) {
  for (;;) {
    rest(200 * ns_per_ms);
    for (const Lure& lure : lures) {
      const std::uint64_t began = lure.began_ns.load();
      if (began == 0 || now_ns() - began < lure.limit_ns) continue;
      std::fprintf(stderr, "a client of the changed %s hangs\n", lure.name);
      return 3;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_IGN);
  if (argc != 5) {
    std::fprintf(stderr, "usage: fault-bait SOCKET TASK_MODULE JOB_MODULE FOLDER\n");
    return 2;
  }
  socket_path = argv[1];
  task_module = argv[2];
  job_module = argv[3];
  folder = argv[4];
  write_input();
  // A round of many calls that all run out of time has still an end.
  static std::array<Lure, 5> lures = {{
      {"echo", 200 * call_timeout_ns + call_limit_ns, lure_echo},
      {"storage", 400 * call_timeout_ns + call_limit_ns, lure_storage},
      {"scheduler", 210 * call_timeout_ns + call_limit_ns,
       [] { return lure_tasks("m-scheduler"); }},
      {"context", 210 * call_timeout_ns + call_limit_ns, [] { return lure_tasks("scheduler"); }},
      {"mapreduce", job_limit_ns, lure_job},
  }};
  for (Lure& lure : lures)
    std::thread([&lure] {
      for (;;) {
        lure.began_ns = now_ns();
        const Result<void> done = lure.round();
        lure.began_ns = 0;
        rest(done ? ns_per_ms : 5 * ns_per_ms);
      }
    }).detach();
  const int code = watch(lures);
  std::_Exit(code);
}
