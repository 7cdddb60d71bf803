#include "tools/bench/mapreduce.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <tuple>

#include "abi/lib/mapreduce/client.hpp"
#include "abi/runtime/fd.hpp"
#include "tools/bench/corpus.hpp"
#include "tools/bench/samples.hpp"

extern char** environ;

namespace aios::bench {

namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t document_count = 64;
constexpr const char* sort_program = "/usr/bin/sort";

/// Runs a program to its end; what it printed. `crashed` when it does not end with 0.
Result<std::string> output_of(std::vector<std::string> command) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("make a pipe", errno);
  const Fd reader(ends[0]);
  Fd writer(ends[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
  std::vector<char*> arguments;
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t pid = 0;
  const int failed =
      ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return errno_error("run " + command[0], failed);
  writer.reset();
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(reader.get(), buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return error(Code::crashed, command[0] + " failed");
  return text;
}

/// What a peer says that it took.
Result<double> seconds_of(const std::vector<std::string>& command) {
  const std::string printed = TRY(output_of(command));
  char* end = nullptr;
  const double seconds = std::strtod(printed.c_str(), &end);
  if (end == printed.c_str() || seconds <= 0)
    return error(Code::protocol_error, command[0] + " printed no time: " + printed);
  return seconds;
}

/// One way to do a case. Those with an output must all write the same.
struct System {
  std::string name;
  std::function<Result<double>()> seconds;
  std::string output;
};

class Bench {
 public:
  explicit Bench(const MapReduceOptions& options) : options_(options) {}

  Result<MapReduceFigures> run();

 private:
  Result<void> prepare();
  std::vector<System> systems(const std::string& name) const;
  Result<void> round(const std::string& name);
  Result<double> aios(const std::string& job, const std::string& input,
                      const std::string& folder) const;
  Result<double> gnu_sort(const std::string& output) const;
  std::string work(const std::string& name) const { return options_.work + "/" + name; }
  bool has_duckdb() const;

  const MapReduceOptions& options_;
  std::string corpus_;
  std::string documents_;
  bool duckdb_ = false;
  MapReduceFigures figures_;
};

/// A Python that has it, as peers/duckdb_jobs.py needs.
bool Bench::has_duckdb() const {
  return output_of({"sh", "-c", "python3 -c 'import duckdb' 2>/dev/null"}).has_value();
}

Result<void> Bench::prepare() {
  corpus_ = options_.corpus;
  documents_ = corpus_;
  const bool index = options_.only.empty() || std::ranges::count(options_.only, "inverted-index");
  if (corpus_.empty()) {
    corpus_ = work("corpus");
    TRY(make_corpus(corpus_, options_.corpus_mb * 1'000'000));
    documents_ = work("documents");
    if (index) TRY(cut_corpus(corpus_, documents_, document_count));
  }
  std::error_code failed;
  figures_.corpus_bytes = fs::file_size(corpus_, failed);
  if (failed || figures_.corpus_bytes == 0)
    return error(Code::not_found, corpus_ + ": not a file with text in it");
  figures_.corpus_xxh3 = TRY(checksum(corpus_));
  duckdb_ = options_.corpus.empty() && has_duckdb();  // it takes no bytes that are not UTF-8
  return {};
}

Result<double> Bench::aios(const std::string& job, const std::string& input,
                           const std::string& folder) const {
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  AttachOptions own;
  own.job_name = "bench-" + std::to_string(::getpid());
  const auto kernel = TRY(Kernel::attach(options_.socket, own));
  mapreduce_client::Options run;
  run.label = job;
  run.module_path = options_.modules + "/" + job + ".so";
  run.inputs = {input};
  run.output = folder;
  run.threads = options_.threads;
  run.memory_bytes = options_.memory_mb << 20;
  const Handle port = TRY(kernel->startup(proto::mapreduce::Protocol::name)).handle;
  const auto report = TRY(mapreduce_client::run(*kernel, port, run, {}));
  return static_cast<double>(report.seconds_ns) / ns_per_s;
}

/// With as many threads and as much memory.
Result<double> Bench::gnu_sort(const std::string& output) const {
  const std::uint64_t memory =
      options_.memory_mb != 0 ? options_.memory_mb << 20 : mapreduce_client::default_memory_bytes();
  const std::uint64_t begin_ns = now_ns();
  // It is done when its output is on disk, like a job's.
  TRY(output_of({"sh", "-c", "LC_ALL=C \"$0\" \"$@\" && sync \"$2\"", sort_program, "-o", output,
                 fmt::format("--parallel={}", options_.threads), fmt::format("-S{}b", memory), "-T",
                 options_.work, corpus_}));
  return static_cast<double>(now_ns() - begin_ns) / ns_per_s;
}

std::vector<System> Bench::systems(const std::string& name) const {
  const std::string threads = std::to_string(options_.threads);
  const std::string& input = name == "inverted-index" ? documents_ : corpus_;
  std::vector<System> all = {
      {"aios", [=, this] { return aios(name, input, work(name)); }, work(name) + "/part-00000"},
      {"bound",
       [=, this] {
         return seconds_of({options_.peers + "/hash-bound", corpus_, threads});
       },
       ""}};
  if (name == "wordcount") {
    const std::string output = work("baseline");
    all.push_back(
        {"baseline",
         [=, this] {
           return seconds_of({options_.peers + "/wordcount-baseline", corpus_, output, threads});
         },
         output});
  }
  if (name == "sort" && ::access(sort_program, X_OK) == 0)
    all.push_back({"gnu_sort", [=, this] { return gnu_sort(work("sorted")); }, work("sorted")});
  if (duckdb_ && name != "inverted-index") {
    const std::string output = work("duckdb-" + name);
    all.push_back({"duckdb",
                   [=, this] {
                     return seconds_of({"python3", options_.peers + "/duckdb_jobs.py", name,
                                        corpus_, output, threads});
                   },
                   output});
  }
  return all;
}

/// Every system of the case once; the first round compares what they wrote.
Result<void> Bench::round(const std::string& name) {
  auto& figures = figures_.mb_per_s[name];
  std::string reference;
  for (const System& system : systems(name)) {
    const auto seconds = system.seconds();
    if (!seconds)
      return error(seconds.error().code(),
                   name + ", " + system.name + ": " + seconds.error().message());
    const bool first = figures[system.name].empty();
    figures[system.name].push_back(static_cast<double>(figures_.corpus_bytes) / 1e6 / *seconds);
    if (!first || system.output.empty()) continue;
    if (reference.empty())
      reference = TRY(checksum(system.output));
    else if (reference != TRY(checksum(system.output)))
      return error(Code::corrupt, name + ": " + system.name + " writes another output than aios");
  }
  return {};
}

Result<MapReduceFigures> Bench::run() {
  std::vector<std::string> cases = {"wordcount", "sort", "inverted-index"};
  for (const std::string& name : options_.only)
    if (!std::ranges::count(cases, name))
      return error(Code::not_found, "there is no case called " + name +
                                        "; there are wordcount, sort and inverted-index");
  if (!options_.only.empty()) cases = options_.only;
  TRY(prepare());
  for (int i = 0; i < options_.rounds; ++i)
    for (const std::string& name : cases) TRY(round(name));
  return std::move(figures_);
}

using Systems = std::map<std::string, std::vector<double>>;

/// The median of the ratios of one round each.
double ratio(const Systems& systems, const std::string& other) {
  std::vector<double> ratios;
  const std::vector<double>&ours = systems.at("aios"), &theirs = systems.at(other);
  for (std::size_t i = 0; i < ours.size(); ++i) ratios.push_back(ours[i] / theirs[i]);
  return median(ratios);
}

}  // namespace

Result<MapReduceFigures> measure_mapreduce(const MapReduceOptions& options) {
  return Bench(options).run();
}

void print_json(const MapReduceFigures& figures, const MapReduceOptions& options) {
  using nlohmann::json;
  json cases = json::object();
  for (const auto& [name, systems] : figures.mb_per_s)
    for (const auto& [system, rounds] : systems) {
      json& one = cases[name][system];
      one = {{"mb_per_s", median(rounds)},
             {"lowest", std::ranges::min(rounds)},
             {"highest", std::ranges::max(rounds)}};
      if (system != "aios") one["aios_ratio"] = ratio(systems, system);
    }
  const json out = {{"corpus_bytes", figures.corpus_bytes},
                    {"corpus_xxh3", figures.corpus_xxh3},
                    {"threads", options.threads},
                    {"rounds", options.rounds},
                    {"cases", cases}};
  fmt::print("{}\n", out.dump(2));
}

void print_table(const MapReduceFigures& figures) {
  fmt::print("{:.1f} MB of text, xxh3 {}; medians over the rounds\n",
             static_cast<double>(figures.corpus_bytes) / 1e6, figures.corpus_xxh3);
  for (const auto& [name, systems] : figures.mb_per_s)
    for (const auto& [system, rounds] : systems) {
      fmt::print("{:<16}{:<10}{:>9.1f} MB/s  {:.1f} to {:.1f}", name, system, median(rounds),
                 std::ranges::min(rounds), std::ranges::max(rounds));
      if (system != "aios") fmt::print("  aios: {:.2f} x", ratio(systems, system));
      fmt::print("\n");
    }
}

}  // namespace aios::bench
