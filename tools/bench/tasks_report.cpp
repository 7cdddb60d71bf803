#include "tools/bench/tasks_report.hpp"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

namespace aios::bench {

namespace {

using nlohmann::json;
using Systems = std::map<std::string, double>;

/// Of AIOS's figure to StarPU's; 0 without.
double ratio_of(const Systems& systems) {
  const auto other = systems.find("starpu");
  return other == systems.end() || other->second == 0 ? 0 : systems.at("aios") / other->second;
}

json to_json(const std::map<std::string, Systems>& figures) {
  json out = json::object();
  for (const auto& [pattern, systems] : figures) {
    out[pattern] = systems;
    if (const double ratio = ratio_of(systems); ratio != 0) out[pattern]["ratio"] = ratio;
  }
  return out;
}

void print_rows(const std::map<std::string, Systems>& figures, const char* unit) {
  for (const auto& [pattern, systems] : figures) {
    fmt::print("  {:<10}{:>10.4g} {}", pattern, systems.at("aios"), unit);
    if (const double ratio = ratio_of(systems); ratio != 0)
      fmt::print("{:>12.4g} {} StarPU{:>9.3f} x", systems.at("starpu"), unit, ratio);
    fmt::print("\n");
  }
}

}  // namespace

void print_json(const TaskFigures& figures, const TaskOptions& options) {
  const json out{{"tasks", options.tasks},
                 {"rounds", options.rounds},
                 {"ns_per_task", to_json(figures.ns_per_task)},
                 {"metg_us", to_json(figures.metg_us)}};
  fmt::print("{}\n", out.dump(2));
}

void print_table(const TaskFigures& figures) {
  fmt::print("A task from the program to its completion there, submitted with many others:\n");
  print_rows(figures.ns_per_task, "ns");
  if (figures.metg_us.empty()) return;
  fmt::print("The least grain at which half of the machine does useful work, METG(50%):\n");
  print_rows(figures.metg_us, "us");
}

}  // namespace aios::bench
