// tests/bench/trees: where boosted trees predict new sizes better than what speaks without them.
// README.md says what is compared and how to read the tables.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>

#include "abi/runtime/time.hpp"
#include "services/scheduler/costs/learned_costs.hpp"
#include "services/scheduler/simulator/graph.hpp"
#include "services/scheduler/trainer/training.hpp"
#include "services/scheduler/trainer/xgboost.hpp"

namespace {

using namespace aios;
using namespace aios::scheduler;
using trainer::Booster;

constexpr DeviceId device = 0;
constexpr std::uint32_t user = 1000;

struct Run {
  std::string codelet;
  Features features;
  double time_ns;
  double memory_bytes;
};

struct Family {
  std::string name;
  std::vector<Run> runs;  ///< the earliest first
};

/// Of a task of a recorded graph, as Core::work_of makes them of a record.
Features features_of(const sim::Graph& graph, const sim::SimTask& task) {
  Features f;
  f.buffers = static_cast<double>(task.accesses.size());
  for (const sim::Access& access : task.accesses) {
    const auto bytes = static_cast<double>(graph.data_bytes[access.data]);
    f.footprint = (f.footprint ^ graph.data_bytes[access.data]) * 0x9E3779B97F4A7C15ull;
    f.footprint ^= f.footprint >> 29;
    f.bytes += bytes;
    f.largest_bytes = std::max(f.largest_bytes, bytes);
    if (access.reads()) f.read_bytes += bytes;
    if (access.writes()) f.written_bytes += bytes;
  }
  return f;
}

/// The runs of an application that were recorded, one after the other: later ones are held out.
Result<std::vector<Family>> recorded() {
  // In this order: small runs first, as one would try out a workflow.
  const std::pair<const char*, std::vector<const char*>> applications[] = {
      {"1000genome",
       {"1000genome-chameleon-2ch-100k-001", "1000genome-chameleon-8ch-100k-001",
        "1000genome-chameleon-4ch-250k-001"}},
      {"epigenomics",
       {"epigenomics-chameleon-hep-1seq-100k-001", "epigenomics-chameleon-hep-2seq-50k-001",
        "epigenomics-chameleon-ilmn-1seq-50k-001"}},
      {"srasearch",
       {"srasearch-chameleon-10a-001", "srasearch-chameleon-20a-003",
        "srasearch-chameleon-40a-002"}},
      {"rnaseq", {"rnaseq-dirt02-001"}},
      {"sarek", {"sarek-dirt02-001"}},
  };
  std::vector<Family> families;
  const char* data = std::getenv("AIOS_TEST_DATA");
  if (data == nullptr || !std::filesystem::is_directory(std::string(data) + "/wfformat")) {
    fmt::print("AIOS_TEST_DATA names no folder with wfformat/: generated runs alone.\n");
    return families;
  }
  for (const auto& [name, files] : applications) {
    Family family{name, {}};
    for (const char* file : files) {
      const sim::Graph graph =
          TRY(sim::read_wfformat(std::string(data) + "/wfformat/" + file + ".json"));
      for (const sim::SimTask& task : graph.tasks)
        family.runs.push_back({graph.types[task.type].name, features_of(graph, task),
                               1e9 * task.work_s, static_cast<double>(task.memory_bytes)});
    }
    families.push_back(std::move(family));
  }
  return families;
}

/// Kinds of code whose time over sizes is known: where a line is right, and where it is not.
Family generated(double noise) {
  Family family{"generated", {}};
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> any(0, 1);
  std::normal_distribution<double> chance(0, noise);
  for (int i = 0; i < 240; ++i) {
    const double bytes = std::exp(std::log(1e4) + any(random) * std::log(1e4));
    const double blocks = std::ceil(std::exp(any(random) * std::log(4096)));
    const double written = bytes * std::pow(10, -3 * any(random));
    Features f{static_cast<std::uint64_t>(i) + 1,  bytes, blocks, bytes - written, written,
               std::max(written, bytes - written), 2};
    const auto add = [&](const char* codelet, double time_ns) {
      family.runs.push_back({codelet, f, time_ns * std::exp(chance(random)), 0});
    };
    add("power law", 5 * std::pow(bytes, 1.2));
    add("cache cliff", 0.2 * bytes * (bytes > 3e5 ? 1 : 0.25) * (bytes > 1e7 ? 3 : 1));
    add("roofline", 2000 + std::max(0.1 * bytes, 4000 * blocks));
    add("by what it writes", 3000 + 0.05 * bytes + 2 * written);
    add("no pattern", 1e6 * std::pow(30, chance(random) > 0 ? 0.5 : -0.5));
  }
  return family;
}

/// Predictions of runs of sizes that had never run, before they ran: absolute errors.
struct Errors {
  std::vector<double> shares;
  double log_sum = 0;
  void add(double predicted_ns, double actual_ns) {
    shares.push_back(std::abs(predicted_ns / actual_ns - 1));
    log_sum += std::min(std::abs(std::log(predicted_ns / actual_ns)), 2.0);
  }
  double mdape() const {
    if (shares.empty()) return 0;
    std::vector<double> sorted = shares;
    std::ranges::sort(sorted);
    return sorted[sorted.size() / 2];
  }
  double log_error() const {
    return shares.empty() ? 0 : log_sum / static_cast<double>(shares.size());
  }
};

struct Replay {
  std::vector<TrainedKey> last;                 ///< of each key the last training
  std::map<std::string, Errors> with, without;  ///< since the first promotion of a codelet
  std::map<std::string, std::uint32_t> boosted;
};

void retrain(LearnedCosts& costs, Booster& booster, Replay& out) {
  for (const KeyRuns& key : costs.take_training(max_trained_keys)) {
    const TrainedKey trained = trainer::train(key, booster, [] { return false; });
    costs.adopt(trained, true);
    std::erase_if(out.last, [&](const TrainedKey& one) { return one.key == trained.key; });
    out.last.push_back(trained);
  }
}

/// As the scheduler would live through it: trained when it is due, promoted, demoted.
Replay replay(const Family& family, Booster& booster) {
  Replay out;
  LearnedCosts with, without;
  std::map<std::string, std::pair<CodeletId, CodeletId>> codelets;
  for (LearnedCosts* costs : {&with, &without})
    costs->set_device(device, {.name = "cpu0", .backend = 1, .identity = "cpu"});
  for (const Run& run : family.runs) {
    if (!codelets.contains(run.codelet)) {
      const CodeletKey key{1, user, run.codelet};
      codelets[run.codelet] = {with.open_codelet(key, {}), without.open_codelet(key, {})};
    }
    const auto [here, there] = codelets[run.codelet];
    const WorkId work = with.work(here, run.features);
    const WorkId other = without.work(there, run.features);
    const Estimate estimate = with.estimate(work, device);
    const bool is_new = without.estimate(other, device).samples == 0;
    if (is_new && (estimate.level == Level::boosted || out.with.contains(run.codelet))) {
      out.with[run.codelet].add(estimate.time.mean, run.time_ns);
      out.without[run.codelet].add(without.estimate(other, device).time.mean, run.time_ns);
      out.boosted[run.codelet] += estimate.level == Level::boosted ? 1 : 0;
    }
    with.learn({work, device, run.time_ns, run.memory_bytes});
    without.learn({other, device, run.time_ns, run.memory_bytes});
    if (with.training_due()) retrain(with, booster, out);
  }
  return out;
}

const char* verdict_text(TreesVerdict verdict) {
  constexpr const char* texts[] = {"promoted",     "no better",   "too few",
                                   "no variation", "out of time", "failed"};
  return texts[static_cast<std::size_t>(verdict)];
}

void print(const Family& family, const Replay& found) {
  for (const TrainedKey& one : found.last) {
    const TreesReport& r = one.report;
    const std::string codelet = one.key.codelet.function.substr(0, 20);
    fmt::print("{:<12} {:<20} {:<6} {:>5} {:>5}  {:>7.1f}% {:>7.1f}%  {:>6.3f} {:>6.3f}  {}\n",
               family.name, codelet, one.key.memory ? "memory" : "time", r.trained, r.held_out,
               100 * r.trees_mdape, 100 * r.told_mdape, r.trees_error, r.told_error,
               verdict_text(r.verdict));
  }
}

void print_live(const Family& family, Replay& found) {
  for (const auto& [codelet, with] : found.with) {
    const Errors& without = found.without[codelet];
    fmt::print("{:<12} {:<20} {:>5} {:>7}  {:>7.1f}% {:>7.1f}%  {:>6.3f} {:>6.3f}\n", family.name,
               codelet.substr(0, 20), with.shares.size(), found.boosted[codelet],
               100 * with.mdape(), 100 * without.mdape(), with.log_error(), without.log_error());
  }
}

/// What an answer and a training take.
void print_costs(Booster& booster) {
  KeyRuns key{{{1, user, "work"}, "cpu", false}, {}};
  std::mt19937_64 random(5);
  std::uniform_real_distribution<float> any(5, 20);
  for (std::size_t i = 0; i < max_first_runs; ++i) {
    FirstRun run{{any(random), any(random), any(random), any(random), any(random), 3}, 0, 0};
    run.y = run.features[0] + (run.features[3] > 12 ? 2.0F : 0.0F) * run.features[1] / 10;
    key.runs.push_back(run);
  }
  const std::uint64_t began_ns = now_ns();
  const TrainedKey trained = trainer::train(key, booster, [] { return false; });
  const double training_ms = static_cast<double>(now_ns() - began_ns) / 1e6;
  if (trained.trees == nullptr) return;
  float sum = 0;
  constexpr int rounds = 400;
  const std::uint64_t asked_ns = now_ns();
  for (int round = 0; round < rounds; ++round)
    for (const FirstRun& run : key.runs) sum += trained.trees->predict(run.features);
  const double answer_ns =
      static_cast<double>(now_ns() - asked_ns) / (rounds * static_cast<double>(key.runs.size()));
  fmt::print(
      "\ntraining from {} runs: {:.1f} ms; an answer of {} trees with {} nodes: {:.0f} ns{}\n",
      trained.report.trained, training_ms, trained.trees->parts().roots.size(),
      trained.trees->parts().nodes.size(), answer_ns, std::isfinite(sum) ? "" : "!");
}

Result<int> run(double noise) {
  const std::unique_ptr<Booster> booster = TRY(trainer::load_xgboost());
  fmt::print("{}; the latest quarter of each key's first runs is held out\n\n", booster->name());
  std::vector<Family> families = TRY(recorded());
  families.push_back(generated(noise));
  fmt::print("{:<12} {:<20} {:<6} {:>5} {:>5}  {:>8} {:>8}  {:>6} {:>6}  {}\n", "family", "codelet",
             "of", "train", "held", "MdAPE", "without", "log", "without", "verdict");
  std::vector<Replay> replays;
  for (const Family& family : families) {
    replays.push_back(replay(family, *booster));
    print(family, replays.back());
  }
  fmt::print("\nlive, since the first promotion: runs of new sizes, as they came\n");
  fmt::print("{:<12} {:<20} {:>5} {:>7}  {:>8} {:>8}  {:>6} {:>6}\n", "family", "codelet", "runs",
             "boosted", "MdAPE", "without", "log", "without");
  for (std::size_t i = 0; i < families.size(); ++i) print_live(families[i], replays[i]);
  print_costs(*booster);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Where boosted trees predict new sizes better than what speaks without them");
  double noise = 0.1;
  app.add_option("--noise", noise, "Of generated run times: deviation of their logarithm");
  CLI11_PARSE(app, argc, argv);
  const Result<int> result = run(noise);
  if (result) return *result;
  fmt::print(stderr, "{}\n", result.error().to_string());
  return 1;
}
