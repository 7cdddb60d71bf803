// Many runs of one graph by one policy, and what comes out of them: what `aiosctl simulate` prints.
#pragma once

#include <optional>
#include <vector>

#include "services/scheduler/costs/learned_costs.hpp"
#include "services/scheduler/simulator/run.hpp"

namespace aios::scheduler::sim {

/// How well predictions of run time were met; `cold` are those of sizes with under 50 completions.
struct Accuracy {
  std::uint64_t warm = 0, warm_covered = 0;
  std::uint64_t cold = 0, cold_covered = 0;
  std::vector<double> errors;  ///< |predicted - actual| / actual, of those that knew anything

  void add(const Outcome& outcome);
  std::optional<double> warm_coverage() const;
  std::optional<double> cold_coverage() const;
  std::optional<double> mean_error() const;
  std::optional<double> median_error() const;
};

double median(std::vector<double> values);

/// Every way to schedule that can be compared.
enum class Method {
  core,
  heft_mean,
  heft_learned,
  heft_expected,
  heft_true,
  core_expected,
  oracle
};

/// Runs one graph and platform again and again, and remembers what was learned.
class Study {
 public:
  Study(const Graph& graph, const Platform& platform) : graph_(&graph), platform_(&platform) {}

  /// A run of the graph by the policy `learned`, of which only what it teaches is kept. The graph
  /// may be a record of other devices than the platform's: those of one name are the same.
  Result<void> learn_from(const Graph& graph, const Chances& chances);
  /// `policy` for Method::core. What is learned in a run stays only where `keep_learning`.
  Result<Outcome> run(const Realisation& run, Method method, const std::string& policy = "",
                      std::vector<double> deadlines_ns = {});

  const Graph& graph() const { return *graph_; }
  const Platform& platform() const { return *platform_; }
  LearnedCosts& learned() { return learned_; }

 private:
  const Graph* graph_;
  const Platform* platform_;
  LearnedCosts learned_;
};

}  // namespace aios::scheduler::sim
