// tests/bench/scheduling: how good the schedules are. README.md says what is compared and how to
// read the table.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <thread>

#include "services/scheduler/simulator/overload.hpp"
#include "services/scheduler/simulator/study.hpp"

namespace {

using namespace aios;
using namespace aios::scheduler;
using namespace aios::scheduler::sim;

constexpr double noises[] = {0.1, 0.2, 0.5};
constexpr double ratios[] = {0.1, 1, 10};
constexpr std::uint32_t levels = 3;
constexpr double goal_over_heft = 1.05;
constexpr double most_missed = 0.06;  ///< of the graphs that were accepted

struct Contestant {
  const char* name;
  Method method;
  const char* policy;
};
constexpr Contestant contestants[] = {
    {"eager", Method::core, "eager"},
    {"edf", Method::core, "edf"},
    {"heft-mean", Method::heft_mean, ""},
    {"heft-learned", Method::heft_learned, ""},
    {"heft-expected", Method::heft_expected, ""},
    {"learned", Method::core, "learned"},
    {"core-expected", Method::core_expected, ""},
    {"heft-true", Method::heft_true, ""},
    {"oracle", Method::oracle, ""},
};
constexpr std::size_t contestants_count = std::size(contestants);
constexpr std::size_t eager = 0, heft_expected = 4, learned = 5, heft_true = 7;

struct Instance {
  std::string family;
  Graph graph;
  Platform platform;
};

/// Makespans of one instance in one cell, by contestant, over the seeds.
struct Sample {
  std::size_t instance;
  std::uint32_t noise, ccr;
  std::vector<double> makespan[contestants_count];
  Accuracy accuracy;
  std::vector<double> decision_ns;
};

struct Options {
  std::uint32_t seeds = 20;
  std::uint64_t first_seed = 1;
  std::uint32_t warm_up = 16;
  std::uint32_t threads = 2;
  std::string only;
  bool each = false;
  bool check = false;
  bool load = false;
};

struct Interval {
  double mean, half;
};

Interval interval(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  const double n = static_cast<double>(values.size());
  const double mean = sum / n;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return {mean, n < 2 ? 0 : 1.96 * std::sqrt(squares / (n - 1) / n)};
}

/// So that all of a graph is done in time, by mean times: what EDF goes by.
std::vector<double> deadlines(const Realisation& run) {
  const std::vector<SimTask>& tasks = run.graph().tasks;
  std::vector<double> after(tasks.size());
  double longest = 0;
  for (std::uint32_t t = static_cast<std::uint32_t>(tasks.size()); t-- > 0;) {
    double mean = 0;
    for (DeviceId d = 0; d < run.platform().devices.size(); ++d)
      mean += run.expected_ns(t, d) * run.platform().devices[d].slots / run.platform().slots();
    for (const std::uint32_t parent : tasks[t].parents)
      after[parent] = std::max(after[parent], after[t] + mean);
    longest = std::max(longest, after[t] + mean);
  }
  for (double& a : after) a = 10 * longest - a;
  return after;
}

Result<Sample> measure(const std::vector<Instance>& instances, std::size_t at, std::uint32_t noise,
                       std::uint32_t ccr, const Options& options) {
  const Instance& instance = instances[at];
  Sample sample{at, noise, ccr, {}, {}, {}};
  Study study(instance.graph, instance.platform);
  Chances chances{noises[noise], ratios[ccr], options.first_seed + 999'999};
  for (std::uint32_t i = 0; i < options.warm_up; ++i, ++chances.seed)
    TRY(study.learn_from(instance.graph, chances));
  for (std::uint32_t i = 0; i < options.seeds; ++i) {
    chances.seed = options.first_seed + i;
    const Realisation run = TRY(Realisation::draw(instance.graph, instance.platform, chances));
    for (std::size_t c = 0; c < contestants_count; ++c) {
      const bool by_deadline = std::string_view(contestants[c].policy) == "edf";
      const Outcome outcome = TRY(study.run(run, contestants[c].method, contestants[c].policy,
                                            by_deadline ? deadlines(run) : std::vector<double>{}));
      sample.makespan[c].push_back(outcome.makespan_ns);
      if (c != learned) continue;
      sample.accuracy.add(outcome);
      sample.decision_ns.insert(sample.decision_ns.end(), outcome.decision_ns.begin(),
                                outcome.decision_ns.end());
    }
  }
  return sample;
}

Result<std::vector<Instance>> instances(const Options& options) {
  std::vector<Instance> all;
  const char* data = std::getenv("AIOS_TEST_DATA");
  const Platform mixed = TRY(parse_devices("cpu:8,gpu:2@20"));
  const Platform mild = TRY(parse_devices("cpu:8,gpu:2@4"));
  for (const char* spec : {"cholesky:12", "lu:9", "qr:8", "stencil:20", "fft:32", "random:300"}) {
    Graph graph = TRY(generate(spec));
    all.push_back({"generated", std::move(graph), mixed});
  }
  if (data == nullptr || !std::filesystem::is_directory(std::string(data) + "/wfformat")) {
    fmt::print("AIOS_TEST_DATA names no folder with wfformat/: generated graphs alone.\n");
  } else {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(std::string(data) + "/wfformat"))
      if (entry.path().extension() == ".json") files.push_back(entry.path());
    std::ranges::sort(files);
    for (const std::string& file : files) {
      Graph graph = TRY(read_wfformat(file));
      all.push_back({"recorded", std::move(graph), mild});
    }
    const std::string models = std::string(data) + "/perfmodels/idgraf";
    const Platform measured = TRY(parse_devices("cpu:8,gpu:2,models:" + models));
    for (const char* spec : {"cholesky:12", "lu:9"}) {
      Graph graph = TRY(generate(spec));
      all.push_back({"generated", std::move(graph), measured});
      all.back().graph.name += " (measured)";
    }
  }
  if (!options.only.empty())
    std::erase_if(all, [&](const Instance& i) {
      return i.graph.name.find(options.only) == std::string::npos;
    });
  return all;
}

Result<std::vector<Sample>> measure_all(const std::vector<Instance>& all, const Options& options) {
  const std::size_t jobs = all.size() * levels * levels;
  std::vector<Sample> samples;
  std::optional<Status> failure;
  std::mutex mutex;
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t job = next++; job < jobs; job = next++) {
      auto sample =
          measure(all, job / (levels * levels), job / levels % levels, job % levels, options);
      const std::lock_guard lock(mutex);
      if (sample)
        samples.push_back(std::move(*sample));
      else
        failure = sample.error();
    }
  };
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < options.threads; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  if (failure) return std::unexpected(*failure);
  return samples;
}

/// Of one contestant by HEFT with true times, of every run in the cell; by eager where `by_eager`.
std::vector<double> ratios_of(const std::vector<const Sample*>& cell, std::size_t contestant,
                              std::size_t by = heft_true) {
  std::vector<double> out;
  for (const Sample* sample : cell)
    for (std::size_t i = 0; i < sample->makespan[contestant].size(); ++i)
      out.push_back(sample->makespan[contestant][i] / sample->makespan[by][i]);
  return out;
}

struct Verdict {
  std::uint32_t cells = 0, near_heft = 0, near_expected = 0, not_worse_than_eager = 0;
};

void print_cell(const std::string& family, std::uint32_t noise, std::uint32_t ccr,
                const std::vector<const Sample*>& cell, Verdict& verdict) {
  fmt::print("{:10} {:5.1f} {:5.1f} |", family, noises[noise], ratios[ccr]);
  for (std::size_t c = 0; c < contestants_count; ++c) {
    const Interval by = interval(ratios_of(cell, c));
    fmt::print(" {:6.3f} ±{:5.3f} ", by.mean, by.half);
  }
  const bool near = interval(ratios_of(cell, learned)).mean <= goal_over_heft;
  const Interval eagers = interval(ratios_of(cell, learned, eager));
  const bool not_worse = eagers.mean - eagers.half <= 1;
  fmt::print("|{}{}\n", near ? "" : " over HEFT's 5%", not_worse ? "" : " worse than eager");
  ++verdict.cells;
  verdict.near_heft += near;
  verdict.near_expected += interval(ratios_of(cell, learned, heft_expected)).mean <= goal_over_heft;
  verdict.not_worse_than_eager += not_worse;
}

void print_worst(const std::vector<Instance>& all, const std::vector<Sample>& samples) {
  const Sample* worst = nullptr;
  double most = 0;
  for (const Sample& sample : samples) {
    const double mean = interval(ratios_of({&sample}, learned)).mean;
    if (mean <= most) continue;
    most = mean;
    worst = &sample;
  }
  if (worst == nullptr) return;
  fmt::print(
      "worst for learned: {} at noise {}, communication {}: {:.3f} of HEFT with true times; "
      "the dynamic oracle {:.3f}\n",
      all[worst->instance].graph.name, noises[worst->noise], ratios[worst->ccr], most,
      interval(ratios_of({worst}, contestants_count - 1)).mean);
}

void print_each(const std::vector<Instance>& all, const std::vector<Sample>& samples) {
  for (const Sample& sample : samples) {
    fmt::print("{:44} {:5.1f} {:5.1f} |", all[sample.instance].graph.name, noises[sample.noise],
               ratios[sample.ccr]);
    for (std::size_t c = 0; c < contestants_count; ++c)
      fmt::print(" {:6.3f}", interval(ratios_of({&sample}, c)).mean);
    fmt::print("\n");
  }
}

Verdict print_table(const std::vector<Instance>& all, const std::vector<Sample>& samples) {
  fmt::print(
      "makespan by that of HEFT with true times: mean and 95% interval over graphs and seeds\n");
  fmt::print("{:10} {:>5} {:>5} |", "graphs", "noise", "ccr");
  for (const Contestant& c : contestants) fmt::print(" {:^14}", c.name);
  fmt::print("|\n");
  Verdict verdict;
  for (const char* family : {"recorded", "generated"})
    for (std::uint32_t noise = 0; noise < levels; ++noise)
      for (std::uint32_t ccr = 0; ccr < levels; ++ccr) {
        std::vector<const Sample*> cell;
        for (const Sample& sample : samples)
          if (all[sample.instance].family == family && sample.noise == noise && sample.ccr == ccr)
            cell.push_back(&sample);
        if (!cell.empty()) print_cell(family, noise, ccr, cell, verdict);
      }
  fmt::print(
      "learned, of {} cells: within 5% of HEFT with true times {}, of HEFT with expected times "
      "{}; not worse than eager {}\n",
      verdict.cells, verdict.near_heft, verdict.near_expected, verdict.not_worse_than_eager);
  return verdict;
}

void print_rest(const std::vector<Sample>& samples) {
  std::vector<double> decisions;
  Accuracy all;
  for (const Sample& sample : samples) {
    decisions.insert(decisions.end(), sample.decision_ns.begin(), sample.decision_ns.end());
    all.warm += sample.accuracy.warm;
    all.warm_covered += sample.accuracy.warm_covered;
    all.cold += sample.accuracy.cold;
    all.cold_covered += sample.accuracy.cold_covered;
    all.errors.insert(all.errors.end(), sample.accuracy.errors.begin(),
                      sample.accuracy.errors.end());
  }
  fmt::print(
      "within their p95: {:.2f}% of {} with 50 completions or more before; {:.2f}% of {} with "
      "fewer\n",
      100 * all.warm_coverage().value_or(0), all.warm, 100 * all.cold_coverage().value_or(0),
      all.cold);
  fmt::print("error of predicted times: mean {:.1f}%, median {:.1f}%\n",
             100 * all.mean_error().value_or(0), 100 * all.median_error().value_or(0));
  fmt::print("a decision of learned: p50 {:.0f} ns a task\n", median(decisions));
}

/// Streams of graphs with deadlines: with admission beside earliest deadline first without. Whether
/// admission has kept its promises.
Result<bool> bench_load(const Options& options) {
  bool kept = true;
  fmt::print(
      "graphs of 2 users with 2 tenants each, 4 of 5 with deadlines: mean over {} streams of 400 "
      "on 8 "
      "slots, noise 0.3\n"
      "load | with admission: goodput  rejected  missed of accepted | EDF: goodput  missed\n",
      options.seeds);
  for (const double load : {0.8, 1.0, 1.5}) {
    double good[2] = {}, rejected = 0, missed[2] = {}, accepted[2] = {};
    for (std::uint64_t seed = 1; seed <= options.seeds; ++seed)
      for (const bool admission : {true, false}) {
        Stream stream;
        stream.load = load;
        stream.seed = seed;
        stream.admission = admission;
        const StreamOutcome outcome = TRY(run_stream(stream));
        good[admission] += outcome.goodput() / options.seeds;
        if (admission) rejected += 1.0 * outcome.rejected / outcome.offered / options.seeds;
        missed[admission] += outcome.missed;
        accepted[admission] += outcome.offered - outcome.rejected;
      }
    fmt::print("{:3.0f}% | {:22.1f}% {:8.1f}% {:18.1f}% | {:11.1f}% {:6.1f}%\n", load * 100,
               good[1] * 100, rejected * 100, 100 * missed[1] / accepted[1], good[0] * 100,
               100 * missed[0] / accepted[0]);
    kept = kept && good[1] >= good[0] && missed[1] <= most_missed * accepted[1];
  }
  return kept;
}

/// What --check asks. Not to be near HEFT with true times: that knows the future.
Result<void> check(const Options& options, const Verdict& verdict, bool kept) {
  if (!options.check) return {};
  if (verdict.cells == 0 && !options.load)
    return error(Code::invalid_argument, "no graph is so called; there is nothing to check");
  if (verdict.near_expected < verdict.cells)
    return error(Code::internal,
                 "learned takes over 5% longer than HEFT with expected times in some cell");
  if (verdict.not_worse_than_eager < verdict.cells)
    return error(Code::internal, "learned is worse than eager in some cell");
  if (!kept)
    return error(Code::internal,
                 "with admission less of the graphs is good than by EDF without, or more than 6% "
                 "of those accepted are late");
  return {};
}

Result<void> bench(const Options& options) {
  if (options.load) return check(options, {}, TRY(bench_load(options)));
  const std::vector<Instance> all = TRY(instances(options));
  const std::vector<Sample> samples = TRY(measure_all(all, options));
  const Verdict verdict = print_table(all, samples);
  if (options.each) print_each(all, samples);
  print_worst(all, samples);
  print_rest(samples);
  return check(options, verdict, options.only.empty() ? TRY(bench_load(options)) : true);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compares schedules in virtual time.", "scheduling");
  Options options;
  app.add_option("--seeds", options.seeds, "Runs of each graph in each cell [20]")
      ->check(CLI::Range(1, 100000));
  app.add_option("--first-seed", options.first_seed,
                 "Of those runs; what is chosen by one range is shown by another [1]");
  app.add_option("--warm-up", options.warm_up, "Earlier runs that are learned from [16]");
  app.add_option("--threads", options.threads, "At once [2]");
  app.add_option("--only", options.only, "Graphs whose name has this in it");
  app.add_flag("--each", options.each, "Every graph, too");
  app.add_flag(
      "--check", options.check,
      "Fails unless in every cell learned is within 5% of HEFT with expected times and not "
      "worse than eager, and admission is no worse than EDF and 6% late");
  app.add_flag("--load", options.load, "The streams of graphs with deadlines alone");
  CLI11_PARSE(app, argc, argv);
  const Result<void> done = bench(options);
  if (!done) fmt::print(stderr, "scheduling: {}\n", done.error().message());
  return done ? 0 : 1;
}
