// codelets-bench: the standard codelets as the processor runs them, each beside the best that does
// the same without AIOS, and beside its own blocks.
//
//   codelets-bench [--rounds N] [--threads N]... [--only NAME]... [--json]
//
// README.md says what is timed. Exit codes: 0 done, 1 a module cannot be loaded, 2 usage.
#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tests/bench/codelet_cases.hpp"
#include "tests/bench/codelet_team.hpp"

using namespace aios::bench;
using nlohmann::json;

namespace {

constexpr double most_ratio = 1.15;
constexpr unsigned blas_rest_us = 100'000;

struct Options {
  int rounds = 9;
  std::vector<unsigned> threads;
  std::vector<std::string> only;
  bool as_json = false;
};

struct Ratios {
  std::vector<double> all;
  double at(double share) {
    std::ranges::sort(all);
    return all[static_cast<std::size_t>(share * static_cast<double>(all.size() - 1))];
  }
  json to_json() { return {{"median", at(0.5)}, {"lowest", at(0)}, {"highest", at(1)}}; }
};

/// One codelet with so many threads: its own time, its time over the peer's, and its blocks' over
/// its.
struct Figures {
  Ratios ms, over_peer, blocks_over_own;
};

Figures measure(const CodeletCase& c, Team& team, int rounds) {
  Figures figures;
  const auto own = [&] { return team.time([&](unsigned t, unsigned of) { c.shares(t, of); }); };
  const auto blocks = [&] { return team.time([&](unsigned t, unsigned of) { c.blocks(t, of); }); };
  const auto peer = [&] { return team.time([&](unsigned t, unsigned of) { c.peer(t, of); }); };
  (void)own();
  (void)blocks();
  if (c.peer) (void)peer();
  for (int round = 0; round < rounds; ++round) {
    const double own_ns = own();
    if (c.peer) figures.over_peer.all.push_back(own_ns / peer());
    if (c.peer_lingers) ::usleep(blas_rest_us);
    figures.blocks_over_own.all.push_back(blocks() / own_ns);
    figures.ms.all.push_back(own_ns / 1e6);
  }
  return figures;
}

void print(const CodeletCase& c, unsigned threads, Figures& figures) {
  const auto text = [](Ratios& ratios) {
    return ratios.all.empty() ? std::string("-")
                              : fmt::format("{:.2f} ({:.2f} to {:.2f})", ratios.at(0.5),
                                            ratios.at(0), ratios.at(1));
  };
  const bool slow = !figures.over_peer.all.empty() && figures.over_peer.at(0.5) > most_ratio;
  fmt::print("{:<16}{:>3}{:>9.2f}  {:<24}{:<22}{:<24}{}\n", c.name, threads, figures.ms.at(0.5),
             text(figures.over_peer), c.peer ? c.peer_name : "-", text(figures.blocks_over_own),
             slow ? "slower" : "");
  std::fflush(stdout);
}

bool wanted(const Options& options, const std::string& name) {
  return options.only.empty() || std::ranges::find(options.only, name) != options.only.end();
}

int run(const Options& options) {
  json out = json::array();
  if (!options.as_json)
    fmt::print("{:<16}{:>3}{:>9}  {:<24}{:<22}{:<24}\n", "codelet", "thr", "ms",
               "its time / peer's", "peer", "blocks' time / its");
  for (const CodeletCase& c : codelet_cases()) {
    if (!wanted(options, c.name)) continue;
    for (const unsigned threads : options.threads) {
      Team team(threads);
      Figures figures = measure(c, team, options.rounds);
      if (!options.as_json) {
        print(c, threads, figures);
        continue;
      }
      json one{{"codelet", c.name}, {"threads", threads}, {"ms", figures.ms.to_json()}};
      one["blocks_over_own"] = figures.blocks_over_own.to_json();
      if (c.peer) {
        one["peer"] = c.peer_name;
        one["over_peer"] = figures.over_peer.to_json();
      }
      out.push_back(std::move(one));
    }
  }
  if (options.as_json) fmt::print("{}\n", out.dump(2));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("The standard codelets on the processor, beside the best without AIOS.");
  app.add_option("--rounds", options.rounds, "interleaved repetitions (9)")
      ->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads,
                 "may be repeated (1, and as many as there are cores)")
      ->check(CLI::Range(1u, 256u));
  app.add_option("--only", options.only, "a codelet; may be repeated");
  app.add_flag("--json", options.as_json, "one array instead of a table");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    return app.exit(wrong) == 0 ? 0 : 2;
  }
  if (options.threads.empty()) options.threads = {1, cores()};
  if (options.threads.back() == 1) options.threads.resize(1);
  try {
    return run(options);
  } catch (const std::exception& failed) {
    std::fprintf(stderr, "codelets-bench: %s\n", failed.what());
    return 1;
  }
}
