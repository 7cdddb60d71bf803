// StarPU on the task graphs of `aiosctl bench tasks`: bench-starpu PATTERN TASKS TURNS prints the
// nanoseconds from the first task's making to the last one's end. Dependencies are declared as
// such, which costs StarPU less than deriving them from data.
#include <starpu.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "abi/runtime/time.hpp"
#include "tools/bench/patterns.hpp"

namespace {

using namespace aios::bench;

void run_spin(void**, void* argument) {
  spin(reinterpret_cast<std::uintptr_t>(argument));
}

std::uint64_t run(Pattern pattern, std::uint32_t count, std::uint64_t turns) {
  starpu_codelet codelet{};
  codelet.cpu_funcs[0] = run_spin;
  codelet.nbuffers = 0;
  codelet.name = "spin";
  std::vector<starpu_task*> tasks(count);
  const std::uint64_t begin = aios::now_ns();
  for (std::uint32_t i = 0; i < count; ++i) {
    starpu_task* task = tasks[i] = starpu_task_create();
    task->cl = &codelet;
    task->cl_arg = reinterpret_cast<void*>(turns);
    // Later tasks name it: it is destroyed when all are done.
    task->destroy = 0;
    const Dependencies before = dependencies_of(pattern, i);
    starpu_task* named[3];
    for (std::uint32_t d = 0; d < before.count; ++d) named[d] = tasks[before.tasks[d]];
    if (before.count > 0) starpu_task_declare_deps_array(task, before.count, named);
    if (starpu_task_submit(task) != 0) return 0;
  }
  starpu_task_wait_for_all();
  const std::uint64_t end = aios::now_ns();
  for (starpu_task* task : tasks) starpu_task_destroy(task);
  return end - begin;
}

}  // namespace

int main(int argc, char** argv) {
  const auto pattern = argc == 4 ? pattern_from(argv[1]) : std::nullopt;
  if (!pattern) {
    std::fputs("usage: bench-starpu PATTERN TASKS TURNS\n", stderr);
    return 2;
  }
  setenv("STARPU_SILENT", "1", 1);
  setenv("STARPU_NCUDA", "0", 1);
  setenv("STARPU_NOPENCL", "0", 1);
  if (starpu_init(nullptr) != 0) return 1;
  const auto count = static_cast<std::uint32_t>(std::strtoul(argv[2], nullptr, 10));
  run(*pattern, count / 10 + 1, 0);
  const std::uint64_t taken_ns = run(*pattern, count, std::strtoull(argv[3], nullptr, 10));
  starpu_shutdown();
  if (taken_ns == 0) return 1;
  std::printf("%llu\n", static_cast<unsigned long long>(taken_ns));
}
