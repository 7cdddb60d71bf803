#include "tools/bench/tasks.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>

#include "abi/include/aios/tasks.h"
#include "abi/runtime/time.hpp"
#include "tools/bench/pin.hpp"
#include "tools/bench/samples.hpp"

namespace aios::bench {

namespace {

constexpr std::uint64_t timeout_ns = 60 * ns_per_s;

std::unexpected<Status> library_error(const char* what) {
  return error(Code::io_error, std::string(what) + ": " + aios_last_error());
}

/// A tenant of the instance with the codelet `spin`.
class Application {
 public:
  static Result<std::unique_ptr<Application>> create(const TaskOptions& options);
  ~Application();
  /// Makes, submits and awaits them all: the nanoseconds that took.
  Result<std::uint64_t> run(Pattern pattern, std::uint32_t count, std::uint64_t turns);

 private:
  Application() = default;
  void fill(Pattern pattern, std::uint32_t first, std::uint32_t count, std::uint64_t turns);
  Result<void> wait_for(std::uint32_t count);

  aios_instance* instance_ = nullptr;
  aios_tenant* tenant_ = nullptr;
  std::uint32_t codelet_ = 0;
  std::uint64_t next_tag_ = 1;
  std::vector<aios_task_record> records_;
  std::vector<aios_completion> completions_;
};

Result<std::unique_ptr<Application>> Application::create(const TaskOptions& options) {
  std::unique_ptr<Application> app(new Application);
  aios_attach_options attach{};
  attach.socket_path = options.socket.c_str();
  if (aios_attach(&attach, &app->instance_) != AIOS_OK) return library_error("attach");
  if (aios_tenant_open(app->instance_, timeout_ns, &app->tenant_) != AIOS_OK)
    return library_error("open a tenant");
  if (aios_codelet_register_file(app->tenant_, options.module.c_str(), "spin", timeout_ns,
                                 &app->codelet_) != AIOS_OK)
    return library_error("register the codelet");
  app->records_.resize(options.tasks);
  app->completions_.resize(AIOS_MAX_BATCH);
  return app;
}

Application::~Application() {
  aios_tenant_close(tenant_);
  aios_detach(instance_);
}

void Application::fill(Pattern pattern, std::uint32_t first, std::uint32_t count,
                       std::uint64_t turns) {
  for (std::uint32_t i = 0; i < count; ++i) {
    aios_task_record& record = records_[i];
    aios_task_init(&record, next_tag_ + first + i, codelet_);
    if (turns != 0) aios_task_set_arguments(&record, &turns, sizeof turns);
    const Dependencies before = dependencies_of(pattern, first + i);
    for (std::uint32_t d = 0; d < before.count; ++d)
      aios_task_add_dependency(&record, next_tag_ + before.tasks[d]);
  }
}

Result<void> Application::wait_for(std::uint32_t count) {
  while (count > 0) {
    std::size_t got = 0;
    const std::size_t room = std::min<std::size_t>(count, completions_.size());
    if (aios_tenant_completions_of(tenant_, completions_.data(), room, room, timeout_ns, &got) !=
        AIOS_OK)
      return library_error("wait");
    for (std::size_t i = 0; i < got; ++i)
      if (completions_[i].status != AIOS_OK) return error(Code::crashed, "a task failed");
    count -= static_cast<std::uint32_t>(got);
  }
  return {};
}

Result<std::uint64_t> Application::run(Pattern pattern, std::uint32_t count, std::uint64_t turns) {
  const std::uint64_t begin = now_ns();
  std::uint32_t unfinished = 0;
  for (std::uint32_t first = 0; first < count;) {
    // In parts, so that the first run while the others are made.
    const std::uint32_t part =
        std::min({count - first, 8u * AIOS_MAX_BATCH, static_cast<std::uint32_t>(records_.size())});
    fill(pattern, first, part, turns);
    std::size_t taken = 0;
    if (aios_tasks_submit_many(tenant_, records_.data(), part, timeout_ns, &taken) != AIOS_OK)
      return library_error("submit");
    first += part;
    unfinished += part;
  }
  TRY(wait_for(unfinished));
  next_tag_ += count;
  return now_ns() - begin;
}

/// One run of the program of another system.
Result<std::uint64_t> run_peer(const std::string& program, Pattern pattern, std::uint32_t count,
                               std::uint64_t turns) {
  const std::string command =
      fmt::format("timeout 60 {} {} {} {} 2>/dev/null", program, name_of(pattern), count, turns);
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return errno_error("start " + program, errno);
  unsigned long long taken_ns = 0;
  const int read = std::fscanf(pipe, "%llu", &taken_ns);
  if (::pclose(pipe) != 0 || read != 1) return error(Code::io_error, "failed: " + command);
  return taken_ns;
}

/// In a tree a task's parent is half of all tasks before it, and of finished tasks only the last
/// 65,536 are sure to be remembered (tasks.h).
std::uint32_t tasks_of(Pattern pattern, std::uint32_t wanted) {
  constexpr std::uint32_t most_in_tree = 65'536;
  return pattern == Pattern::tree ? std::min(wanted, most_in_tree) : wanted;
}

using Runner = std::function<Result<std::uint64_t>(Pattern, std::uint32_t, std::uint64_t)>;

/// Turns of `spin` in a microsecond while all cores are at it.
double turns_per_us(unsigned cores) {
  constexpr std::uint64_t turns = 50'000'000;
  std::vector<std::thread> threads;
  const std::uint64_t begin = now_ns();
  for (unsigned i = 0; i < cores; ++i) threads.emplace_back([] { spin(turns); });
  for (std::thread& thread : threads) thread.join();
  return turns * 1000.0 / static_cast<double>(now_ns() - begin);
}

/// By bisection over the logarithm of the grain; at each the median of several runs counts, for one
/// that was disturbed would send the search the wrong way for good.
Result<double> metg_us(const Runner& run, Pattern pattern, double turns_a_us, unsigned cores) {
  constexpr int steps = 8;
  constexpr int runs = 3;
  // What begins and ends a run must not be what is measured, however many cores share it.
  const double total_us = 30'000.0 * cores;
  double low = 0.1;
  double high = 400;
  for (int step = 0; step < steps; ++step) {
    const double grain_us = std::sqrt(low * high);
    const std::uint32_t count =
        tasks_of(pattern, static_cast<std::uint32_t>(
                              std::clamp(total_us / grain_us, 500.0 * cores, 10'000.0 * cores)));
    std::vector<double> taken_ns;
    for (int i = 0; i < runs; ++i)
      taken_ns.push_back(static_cast<double>(
          TRY(run(pattern, count, static_cast<std::uint64_t>(grain_us * turns_a_us)))));
    const double efficiency = count * grain_us * 1000 / cores / median(taken_ns);
    (efficiency >= 0.5 ? high : low) = grain_us;
  }
  return high;
}

void show_progress(const std::string& what) {
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\033[K{}", what);
}

}  // namespace

Result<TaskFigures> measure_tasks(const TaskOptions& options) {
  const std::unique_ptr<Application> app = TRY(Application::create(options));
  std::map<std::string, Runner> systems;
  systems["aios"] = [&](auto... all) { return app->run(all...); };
  const std::string starpu = options.peers + "/bench-starpu";
  if (::access(starpu.c_str(), X_OK) == 0)
    systems["starpu"] = [&](auto... all) { return run_peer(starpu, all...); };
  TRY(app->run(Pattern::trivial, options.tasks / 10 + 1, 0));

  std::map<std::string, std::map<std::string, std::vector<double>>> samples;
  for (int round = 0; round < options.rounds; ++round)
    for (const Pattern pattern : options.patterns)
      for (const auto& [name, run] : systems) {
        show_progress(fmt::format("round {}: {} on {}", round + 1, name_of(pattern), name));
        const std::uint32_t tasks = tasks_of(pattern, options.tasks);
        const auto taken_ns = static_cast<double>(TRY(run(pattern, tasks, 0)));
        samples[std::string(name_of(pattern))][name].push_back(taken_ns / tasks);
      }
  TaskFigures figures;
  for (const auto& [pattern, by_system] : samples)
    for (const auto& [name, all] : by_system) figures.ns_per_task[pattern][name] = median(all);

  const std::uint32_t cores = usable_cores();
  const double rate = turns_per_us(cores);
  for (const Pattern pattern : options.patterns)
    for (const auto& [name, run] : systems) {
      if (!options.with_metg || pattern == Pattern::chain) continue;
      show_progress(fmt::format("METG: {} on {}", name_of(pattern), name));
      figures.metg_us[std::string(name_of(pattern))][name] =
          TRY(metg_us(run, pattern, rate, cores));
    }
  show_progress("");
  return figures;
}

}  // namespace aios::bench
