// aios-simulate: what `aiosctl simulate` runs.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>

#include "abi/runtime/command_line.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "services/scheduler/core/parts/admission.hpp"
#include "services/scheduler/simulator/study.hpp"

namespace {

using namespace aios;
using namespace aios::scheduler;
using namespace aios::scheduler::sim;

constexpr std::uint32_t most_runs = 10'000;
/// Where neither the graph nor anybody else says which.
constexpr const char* usual_devices = "cpu:8,gpu:2@20";

struct Options {
  std::string graph;
  std::string generator;
  std::string policy = "learned";
  std::string devices;
  std::string devices_here;
  Chances chances;
  std::uint32_t runs = 1;
  double deadline_s = 0;
  std::vector<std::string> learn_from;
  bool json = false;
};

struct Results {
  std::vector<double> makespan_s, bound_s, ratio;
  std::vector<double> decision_ns;
  std::uint64_t misses = 0;
  std::uint64_t rejections = 0;
  std::uint64_t probes = 0;
  double moved_bytes = 0;
  Accuracy accuracy;
};

/// What is wrong with the value of an option names it.
template <class T>
Result<T> value_of(const std::string& option, Result<T> value) {
  if (value) return value;
  return error(value.error().code(), option + ": " + value.error().message());
}

/// A file of an earlier run, or a number of earlier runs of the graph itself.
Result<void> learn(Study& study, const Options& options) {
  Chances chances = options.chances;
  // Never the luck of the runs that are measured.
  chances.seed += 1'000'000;
  for (const std::string& item : options.learn_from) {
    if (item.empty() || item.find_first_not_of("-0123456789") != item.npos) {
      const Graph earlier = TRY(value_of("--learn-from", read_wfformat(item)));
      TRY(value_of("--learn-from " + item, study.learn_from(earlier, chances)));
      ++chances.seed;
      continue;
    }
    const auto count = command_line::parse_number<std::uint32_t>(item);
    if (!count || *count < 1 || *count > most_runs)
      return error(
          Code::invalid_argument,
          fmt::format("--learn-from: it takes WfFormat files, or a number of runs from 1 to "
                      "{}, not '{}'",
                      most_runs, item));
    for (std::uint32_t i = 0; i < *count; ++i, ++chances.seed)
      TRY(study.learn_from(study.graph(), chances));
  }
  return {};
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

nlohmann::json or_null(const std::optional<double>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

/// Of the simulation, where the graph is the record of a real run by AIOS.
std::optional<double> error_of(const Graph& graph, const Results& r) {
  if (graph.recorded_makespan_s <= 0 || r.makespan_s.empty()) return std::nullopt;
  return mean(r.makespan_s) / graph.recorded_makespan_s - 1;
}

void print_json(const Options& options, const Graph& graph, const Results& r) {
  nlohmann::json out;
  out["graph"] = graph.name;
  out["tasks"] = graph.tasks.size();
  out["policy"] = options.policy;
  out["devices"] = options.devices;
  out["runs"] = options.runs;
  out["seed"] = options.chances.seed;
  out["makespan_s"] = mean(r.makespan_s);
  out["makespans_s"] = r.makespan_s;
  out["recorded_makespan_s"] =
      graph.recorded_makespan_s > 0 ? nlohmann::json(graph.recorded_makespan_s) : nlohmann::json();
  out["error"] = or_null(error_of(graph, r));
  out["lower_bound_s"] = mean(r.bound_s);
  out["ratio_to_oracle_heft"] = mean(r.ratio);
  out["deadline_misses"] = r.misses;
  out["rejections"] = r.rejections;
  out["p95_coverage"] = or_null(r.accuracy.warm_coverage());
  out["p95_coverage_cold"] = or_null(r.accuracy.cold_coverage());
  out["mape"] = or_null(r.accuracy.mean_error());
  out["mdape"] = or_null(r.accuracy.median_error());
  out["probes"] = r.probes;
  out["moved_bytes"] = r.moved_bytes / options.runs;
  out["decision_ns_p50"] = median(r.decision_ns);
  print_to(stdout, "{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_text(const Options& options, const Graph& graph, const Results& r) {
  print_to(stdout, "{}: {} tasks by {} on {}, {} runs\n", printable(graph.name), graph.tasks.size(),
           options.policy, printable(options.devices), options.runs);
  if (r.makespan_s.empty()) {
    print_to(stdout, "all runs were refused: their deadline would not be kept\n");
    return;
  }
  print_to(stdout, "makespan               {:.6g} s\n", mean(r.makespan_s));
  if (const std::optional<double> error = error_of(graph, r))
    print_to(stdout, "really it took         {:.6g} s: the simulation is {:.1f}% {}\n",
             graph.recorded_makespan_s, std::abs(*error) * 100,
             *error < 0 ? "too short" : "too long");
  print_to(stdout, "no schedule is below   {:.6g} s\n", mean(r.bound_s));
  print_to(stdout, "by HEFT, true times    {:.3f} of it\n", mean(r.ratio));
  const auto percent = [](const char* what, const std::optional<double>& value) {
    if (value) print_to(stdout, "{:22} {:.1f}%\n", what, *value * 100);
  };
  percent("within their p95", r.accuracy.warm_coverage());
  percent("the same, cold", r.accuracy.cold_coverage());
  percent("mean error", r.accuracy.mean_error());
  percent("median error", r.accuracy.median_error());
  print_to(stdout, "moved                  {:.4g} MB a run\n", r.moved_bytes / options.runs / 1e6);
  print_to(stdout, "a decision             {:.0f} ns\n", median(r.decision_ns));
  if (options.deadline_s > 0)
    print_to(stdout, "by the deadline        {} of {} runs, {} refused\n",
             options.runs - r.misses - r.rejections, options.runs, r.rejections);
}

/// As the learned costs see the graph beforehand.
Result<GraphDemand> demand_of(Study& study, const Realisation& run) {
  RunOptions options;
  options.costs = &study.learned();
  const PlannedTimes times = TRY(estimated_times(run, options));
  const std::vector<SimTask>& tasks = study.graph().tasks;
  GraphDemand demand;
  std::vector<double> end(tasks.size());
  for (std::uint32_t t = 0; t < tasks.size(); ++t) {
    double rate = 0;
    double quickest = std::numeric_limits<double>::max();
    for (DeviceId d = 0; d < times[t].size(); ++d) {
      if (times[t][d] < 0) continue;
      rate += study.platform().devices[d].slots / std::max(times[t][d], 1.0);
      quickest = std::min(quickest, times[t][d]);
    }
    for (const std::uint32_t parent : tasks[t].parents) end[t] = std::max(end[t], end[parent]);
    end[t] += quickest;
    demand.work_ns += 1 / rate;
    demand.critical_path_ns = std::max(demand.critical_path_ns, end[t]);
  }
  return demand;
}

/// Whether the run is taken on; with other policies every run is.
Result<bool> admit(Admission& admission, Study& study, const Realisation& run, std::uint64_t number,
                   const Options& options) {
  if (options.deadline_s <= 0 || options.policy != "learned") return true;
  GraphDemand demand = TRY(demand_of(study, run));
  demand.deadline_ns = static_cast<std::uint64_t>(options.deadline_s * 1e9);
  const Forecast verdict = admission.ask(number, demand, 0);
  if (!verdict.accepted && !options.json)
    print_to(stdout,
             "run {} refused: done in {:.4g} s, in 95% of cases in {:.4g} s; the deadline is in "
             "{:.4g} s\n",
             number + 1, static_cast<double>(verdict.finish_ns) / 1e9,
             static_cast<double>(verdict.finish_p95_ns) / 1e9, options.deadline_s);
  return verdict.accepted;
}

/// Those that were named; or those of the record; or those of this machine; or the usual ones.
Result<Platform> choose_devices(const Graph& graph, Options& options) {
  if (options.devices.empty() && !graph.recorded_devices.empty()) {
    for (const RecordedDevice& device : graph.recorded_devices)
      options.devices +=
          fmt::format("{}{}:{}", options.devices.empty() ? "" : ",", device.name, device.threads);
    return recorded_platform(graph);
  }
  if (options.devices.empty()) options.devices = options.devices_here;
  if (options.devices.empty()) options.devices = usual_devices;
  return value_of("--devices", parse_devices(options.devices));
}

Result<void> simulate(Options options) {
  if (options.graph.empty() == options.generator.empty())
    return error(Code::invalid_argument,
                 "name one graph: a WfFormat file by --graph, or a generator by --generate");
  TRY(value_of("--policy", make_policy(options.policy)));
  const Graph graph = options.graph.empty()
                          ? TRY(value_of("--generate", generate(options.generator)))
                          : TRY(value_of("--graph", read_wfformat(options.graph)));
  const Platform platform = TRY(choose_devices(graph, options));
  Study study(graph, platform);
  TRY(learn(study, options));
  Results results;
  Admission admission;
  for (std::uint32_t i = 0; i < options.runs; ++i) {
    Chances chances = options.chances;
    chances.seed += i;
    Result<Realisation> drawn = Realisation::draw(graph, platform, chances);
    // All that can be wrong with the others has been looked at.
    if (!drawn && drawn.error().code() == Code::invalid_argument)
      drawn = value_of("--ccr", std::move(drawn));
    const Realisation run = TRY(std::move(drawn));
    if (!TRY(admit(admission, study, run, i, options))) {
      ++results.rejections;
      continue;
    }
    const Outcome outcome = TRY(study.run(run, Method::core, options.policy));
    admission.finished(i, static_cast<std::uint64_t>(outcome.makespan_ns));
    const Outcome heft = TRY(study.run(run, Method::heft_true));
    results.makespan_s.push_back(outcome.makespan_ns / 1e9);
    results.bound_s.push_back(lower_bound_ns(run) / 1e9);
    results.ratio.push_back(outcome.makespan_ns / heft.makespan_ns);
    results.decision_ns.insert(results.decision_ns.end(), outcome.decision_ns.begin(),
                               outcome.decision_ns.end());
    results.misses += options.deadline_s > 0 && outcome.makespan_ns > options.deadline_s * 1e9;
    results.probes += outcome.probes;
    results.moved_bytes += outcome.moved_bytes;
    results.accuracy.add(outcome);
  }
  options.json ? print_json(options, graph, results) : print_text(options, graph, results);
  return {};
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--graph", options.graph, "A recorded graph: a WfFormat 1.5 file");
  app.add_option("--generate", options.generator,
                 "A generated graph: cholesky:N lu:N qr:N (tiles in a row) stencil:N fft:N (width) "
                 "random:N[:SEED] (tasks)");
  app.add_option("--policy", options.policy, "eager prio edf dmda heft learned [learned]");
  app.add_option("--devices", options.devices,
                 "KIND:COUNT[@SPEED],... and models:FOLDER/MACHINE for StarPU's performance models "
                 "[those that a record of AIOS names, with what opening contexts there and loading "
                 "modules took then; else those of this machine where AIOS runs, GPUs as 20 cores; "
                 "else cpu:8,gpu:2@20]");
  app.add_option("--devices-here", options.devices_here)->group("");
  app.add_option("--noise", options.chances.noise, "Coefficient of variation of run times [0]")
      ->transform(command_line::between(0.0, 10.0));
  app.add_option("--ccr", options.chances.ccr,
                 "Mean time to bring a task's inputs over, by its mean run time [as the bus is]")
      ->transform(command_line::between(0.0, 1000.0));
  app.add_option("--seed", options.chances.seed, "Of the first run; the next ones follow [1]")
      ->transform(command_line::at_least(std::uint64_t{0}));
  app.add_option("--runs", options.runs, "How many [1]")
      ->transform(command_line::between(1u, most_runs));
  app.add_option(
      "--learn-from", options.learn_from,
      "Earlier runs to learn from first: WfFormat files, or a number of runs of the graph");
  app.add_option("--deadline", options.deadline_s,
                 "Seconds in which a run should be done; learned refuses those whose p95 is later")
      ->transform(command_line::between(1e-9, 1e9));
  app.add_flag("--json", options.json, "As JSON (abi/schema/simulate.json)");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Runs the scheduler on a graph in virtual time.", "aiosctl simulate");
  app.failure_message([](const CLI::App* one, const CLI::Error& failure) {
    return one->get_name() + ": " + printable(failure.what()) + "\nSee: aiosctl help simulate\n";
  });
  Options options;
  add_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& failure) {
    return app.exit(failure) == 0 ? 0 : 2;
  }
  Result<void> done;
  try {
    done = simulate(options);
  } catch (const std::bad_alloc&) {
    done = error(Code::no_memory,
                 "there is not enough memory, or address space, of which the table of tasks alone "
                 "takes 162 MiB (`ulimit -v` says how much there is)");
  }
  if (done) return finish_output("aiosctl simulate", 0);
  std::fflush(stdout);
  print_to(stderr, "aiosctl simulate: {}\n", printable(done.error().message()));
  return done.error().code() == Code::invalid_argument ? 2 : 1;
}
