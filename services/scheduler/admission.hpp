// Whether a graph with a deadline is taken on: when the p95 of its finish fits. MODELS.md has the
// formulas. A fluid model predicts the finish, from the work before it and its critical path; how
// far such predictions were off in the past gives the quantile.
#pragma once

#include <cstdint>
#include <map>
#include <span>

#include "services/scheduler/cost_models.hpp"

namespace aios::scheduler {

using GraphId = std::uint64_t;

struct GraphDemand {
  double work_ns = 0;           ///< mean run times of all its tasks, over all slots
  double critical_path_ns = 0;  ///< the longest way through it
  std::uint64_t deadline_ns = 0;
};

struct Verdict {
  bool accepted = false;
  std::uint64_t finish_ns = 0;      ///< predicted
  std::uint64_t finish_p95_ns = 0;  ///< of which the deadline must not be before
  bool harms_others = false;        ///< refused because graphs taken on before would be late
};

class Admission {
 public:
  explicit Admission(double slots) : slots_(slots) {}

  /// Remembers the graph when it is accepted.
  Verdict ask(GraphId graph, const GraphDemand& demand, std::uint64_t now_ns);
  /// Of an accepted graph, some work is done.
  void progressed(GraphId graph, double work_ns);
  /// An accepted graph is done (or was cancelled: then nothing is learned).
  void finished(GraphId graph, std::uint64_t now_ns, bool cancelled = false);

 private:
  struct Accepted {
    double left_ns;
    std::uint64_t asked_ns;
    double predicted_ns;  ///< from being asked to the finish
    std::uint64_t deadline_ns;
  };
  double predicted_ns(const GraphDemand& demand, double before_ns) const;
  double quantile(double predicted_ns) const;
  double work_due_by(std::uint64_t deadline_ns) const;

  double slots_;
  std::map<GraphId, Accepted> accepted_;
  History bias_;  ///< of ln(actual / predicted)
  /// Graphs are few, and most have time to spare: it moves fast, and as far as it takes.
  QuantileTracker tracker_{0.3, -3};
};

}  // namespace aios::scheduler
