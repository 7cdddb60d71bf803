// aios-bench: measures an instance. `aiosctl bench` boots one for it.
#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "tools/bench/devices.hpp"
#include "tools/bench/devices_report.hpp"
#include "tools/bench/ipc.hpp"
#include "tools/bench/mapreduce.hpp"
#include "tools/bench/tasks_report.hpp"

namespace aios::bench {

namespace {

using nlohmann::json;

/// The most that any case may take: a hang ends the program.
constexpr unsigned case_limit_s = 120;

struct Figure {
  Measures measures;
  Rounds times;
  std::vector<double> numbers;

  /// One for each round: the p50 of what is a time.
  std::vector<double> by_round() const {
    return measures == Measures::time ? times.p50() : numbers;
  }
  double value() const { return median(by_round()); }
  double lowest() const { return std::ranges::min(by_round()); }
  double highest() const { return std::ranges::max(by_round()); }
};

using Figures = std::map<std::string, Figure>;

Result<Figures> measure(const std::vector<Case>& cases, int rounds) {
  Figures figures;
  for (int round = 1; round <= rounds; ++round)
    for (const Case& one : cases) {
      if (::isatty(STDERR_FILENO) != 0)
        fmt::print(stderr, "\r\033[Kround {} of {}: {}", round, rounds, one.name);
      ::alarm(case_limit_s);
      Result<Outcome> outcome = one.round();
      ::alarm(0);
      if (!outcome)
        return error(outcome.error().code(), one.name + ": " + outcome.error().message());
      Figure& figure = figures[one.name];
      figure.measures = one.measures;
      figure.times.all.push_back(outcome->times);
      figure.numbers.push_back(outcome->value);
    }
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r\033[K");
  return figures;
}

RatioOfRounds ratio_between(const Figures& figures, const Ratio& ratio) {
  return ratio_of_rounds(figures.at(ratio.figure).by_round(),
                         figures.at(ratio.yardstick).by_round());
}

json to_json(const Figure& figure) {
  json out{{"lowest", figure.lowest()}, {"highest", figure.highest()}};
  if (figure.measures == Measures::number) {
    out["median"] = figure.value();
    return out;
  }
  const Quantiles medians = figure.times.medians();
  out["mean"] = medians.mean;
  out["p50"] = medians.p50;
  out["p99"] = medians.p99;
  out["p999"] = medians.p999;
  return out;
}

void print_json(const Figures& figures, int rounds) {
  json out;
  for (const auto& [name, figure] : figures) out[name] = to_json(figure);
  json& ratios = out["ratios"] = json::array();
  for (const Ratio& ratio : ipc_ratios()) {
    if (!figures.contains(ratio.figure) || !figures.contains(ratio.yardstick)) continue;
    const RatioOfRounds of_rounds = ratio_between(figures, ratio);
    json one{{"figure", ratio.figure},
             {"yardstick", ratio.yardstick},
             {"ratio", of_rounds.median},
             {"lowest", of_rounds.lowest},
             {"highest", of_rounds.highest}};
    if (ratio.at_most != 0) one["at_most"] = ratio.at_most;
    ratios.push_back(one);
  }
  out["rounds"] = rounds;
  fmt::print("{}\n", out.dump(2));
}

void print_table(const std::vector<Case>& cases, const Figures& figures) {
  fmt::print("{:<34}{:>12}{:>12}{:>12}{:>12}   p50 of the rounds\n", "", "mean", "p50", "p99",
             "p999");
  for (const Case& one : cases) {
    const Figure& figure = figures.at(one.name);
    if (figure.measures == Measures::number) {
      fmt::print("{:<34}{:>12.4g}{:>36}   {:.4g} to {:.4g}\n", one.name, figure.value(), "",
                 figure.lowest(), figure.highest());
      continue;
    }
    const Quantiles q = figure.times.medians();
    fmt::print("{:<34}{:>9.0f} ns{:>9.0f} ns{:>9.0f} ns{:>9.0f} ns   {:.0f} to {:.0f}\n", one.name,
               q.mean, q.p50, q.p99, q.p999, figure.lowest(), figure.highest());
  }
  fmt::print("\n");
  for (const Ratio& ratio : ipc_ratios()) {
    if (!figures.contains(ratio.figure) || !figures.contains(ratio.yardstick)) continue;
    const RatioOfRounds of_rounds = ratio_between(figures, ratio);
    fmt::print("{:<34}{:>8.3f} x {}, {:.3f} to {:.3f}", ratio.figure, of_rounds.median,
               ratio.yardstick, of_rounds.lowest, of_rounds.highest);
    if (ratio.at_most != 0)
      fmt::print(" ({} {})", of_rounds.median <= ratio.at_most ? "within" : "NOT within",
                 ratio.at_most);
    fmt::print("\n");
  }
}

Result<void> bench_ipc(const IpcOptions& options, const std::vector<std::string>& only, int rounds,
                       bool as_json) {
  std::vector<Case> cases = TRY(ipc_cases(options));
  for (const std::string& name : only)
    if (std::ranges::find(cases, name, &Case::name) == cases.end()) {
      std::string known;
      for (const Case& one : cases) known += " " + one.name;
      return error(Code::invalid_argument,
                   "there is no case called " + name + "; there are" + known);
    }
  if (!only.empty())
    std::erase_if(cases,
                  [&](const Case& one) { return std::ranges::find(only, one.name) == only.end(); });
  const Figures figures = TRY(measure(cases, rounds));
  if (as_json)
    print_json(figures, rounds);
  else
    print_table(cases, figures);
  return {};
}

Result<void> bench_tasks(const TaskOptions& options, bool as_json) {
  const TaskFigures figures = TRY(measure_tasks(options));
  as_json ? print_json(figures, options) : print_table(figures);
  return {};
}

Result<void> bench_mapreduce(const MapReduceOptions& options, bool as_json) {
  const MapReduceFigures figures = TRY(measure_mapreduce(options));
  as_json ? print_json(figures, options) : print_table(figures);
  return {};
}

CLI::App* add_mapreduce(CLI::App& app, MapReduceOptions& options, bool& as_json) {
  CLI::App* mapreduce = app.add_subcommand("mapreduce", "Jobs beside what does the same without");
  mapreduce->add_option("--socket", options.socket, "The instance's socket")->required();
  mapreduce->add_option("--modules", options.modules, "Folder of the jobs that ship")->required();
  mapreduce->add_option("--peers", options.peers, "Folder of the programs beside it")->required();
  mapreduce->add_option("--work", options.work, "Folder for what is written")->required();
  mapreduce->add_option("--corpus", options.corpus, "A text; else one is made");
  mapreduce->add_option("--size-mb", options.corpus_mb, "Size of the text that is made");
  mapreduce->add_option("--memory-mb", options.memory_mb, "Memory of each job");
  mapreduce->add_option("--threads", options.threads, "Threads of each");
  mapreduce->add_option("--only", options.only, "Only these cases");
  mapreduce->add_option("--rounds", options.rounds, "Repetitions")->check(CLI::Range(1, 1000));
  mapreduce->add_flag("--json", as_json, "Prints one JSON object");
  return mapreduce;
}

void add_tasks(CLI::App& app, TaskOptions& options, bool& as_json) {
  CLI::App* tasks = app.add_subcommand("tasks", "Tasks beside those of other systems");
  tasks->add_option("--socket", options.socket, "The instance's socket")->required();
  tasks->add_option("--module", options.module, "bench-spin.so")->required();
  tasks->add_option("--peers", options.peers, "Folder with the programs of other systems");
  tasks->add_option("--count", options.tasks, "Tasks a run")->check(CLI::Range(1, 10'000'000));
  tasks->add_option("--rounds", options.rounds, "Repetitions")->check(CLI::Range(1, 1000));
  tasks->add_option_function<std::vector<std::string>>(
      "--pattern",
      [&options](const std::vector<std::string>& names) {
        options.patterns.clear();
        for (const std::string& name : names)
          if (const auto pattern = pattern_from(name))
            options.patterns.push_back(*pattern);
          else
            throw CLI::ValidationError("there is no pattern called " + name);
      },
      "Only these patterns");
  tasks->add_flag("!--no-metg", options.with_metg, "Without the grain");
  tasks->add_flag("--json", as_json, "Prints one JSON object");
}

}  // namespace

}  // namespace aios::bench

int main(int argc, char** argv) {
  CLI::App app("Measures an AIOS instance; run by aiosctl bench.", "aios-bench");
  app.require_subcommand(1);
  aios::bench::IpcOptions options;
  std::vector<std::string> only;
  int rounds = 7;
  bool as_json = false;
  CLI::App* ipc = app.add_subcommand("ipc", "Links beside bare primitives");
  ipc->add_option("--socket", options.socket, "The instance's socket")->required();
  ipc->add_option("--peers", options.peers, "Folder with the programs of other systems");
  ipc->add_option("--large-bytes", options.large_bytes, "Size of the large region");
  ipc->add_option("--only", only, "Only these cases");
  ipc->add_option("--rounds", rounds, "Interleaved repetitions")->check(CLI::Range(1, 1000));
  ipc->add_flag("--json", as_json, "Prints one JSON object");
  aios::bench::DevicesOptions devices;
  CLI::App* devices_command =
      app.add_subcommand("devices", "Devices, beside their bare interfaces");
  devices_command->add_option("--socket", devices.socket, "The instance's socket")->required();
  devices_command->add_option("--codelets", devices.codelets, "Folder of the standard codelets");
  devices_command->add_option("--only", devices.only, "Only devices of these backends");
  devices_command->add_option("--rounds", rounds, "Repetitions")->check(CLI::Range(1, 1000));
  devices_command->add_flag("--json", as_json, "Prints one JSON object");
  std::string uuid;
  CLI::App* hold = app.add_subcommand("hold-cuda-memory", "What devices parks and resumes");
  hold->add_option("--uuid", uuid, "The device's")->required();
  aios::bench::TaskOptions tasks;
  aios::bench::add_tasks(app, tasks, as_json);
  aios::bench::MapReduceOptions mapreduce;
  const CLI::App* mapreduce_command = aios::bench::add_mapreduce(app, mapreduce, as_json);
  CLI11_PARSE(app, argc, argv);
  try {
    if (hold->parsed()) return aios::bench::hold_cuda_memory(uuid);
    if (devices_command->parsed()) {
      aios::bench::bench_devices(devices, rounds, as_json);
      return 0;
    }
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "aios-bench: %s\n", failure.what());
    return 1;
  }
  const aios::Result<void> done =
      ipc->parsed()                 ? aios::bench::bench_ipc(options, only, rounds, as_json)
      : mapreduce_command->parsed() ? aios::bench::bench_mapreduce(mapreduce, as_json)
                                    : aios::bench::bench_tasks(tasks, as_json);
  if (done) return 0;
  std::fprintf(stderr, "aios-bench: %s\n", done.error().to_string().c_str());
  return 1;
}
