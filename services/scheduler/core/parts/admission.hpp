// Whether a graph with a deadline is taken on: when the p95 of its finish fits. MODELS.md has the
// formulas. A fluid model predicts the finish, from the work before it and its critical path; how
// far such predictions were off in the past gives the quantile.
//
// Work is counted by how long all devices together are busy with it. Users share them equally, so a
// user's work takes its own time and, of each other user, as much work as it is itself or as there
// is. What one user's graphs took says nothing about those of another.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "services/scheduler/costs/cost_models.hpp"
#include "services/scheduler/costs/history_record.hpp"

namespace aios::scheduler {

using GraphId = std::uint64_t;

struct GraphDemand {
  double work_ns = 0;           ///< all its tasks
  double critical_path_ns = 0;  ///< the longest way through it
  std::uint64_t deadline_ns = 0;
  std::uint32_t user = 0;
  std::int32_t priority = 0;  ///< the lowest of its tasks
  bool known = true;          ///< of all its tasks; otherwise nothing is promised or learned
};

/// What `ask` finds.
struct Forecast {
  bool accepted = false;
  double predicted_ns = 0;      ///< from now, before it is put right by how far off others were
  std::uint64_t finish_ns = 0;  ///< predicted
  /// With the margin by which 19 of 20 graphs that are accepted are in time; the deadline must not
  /// be before it.
  std::uint64_t finish_p95_ns = 0;
  bool harms_others = false;  ///< refused because graphs taken on before would be late
};

class Admission {
 public:
  /// Of one user, at once.
  static constexpr std::size_t max_accepted = 256;
  /// Of so many users it is known how far predictions were off.
  static constexpr std::size_t max_users = 256;

  /// Remembers the graph when it is accepted. Nobody with `max_accepted` graphs asks.
  Forecast ask(GraphId graph, const GraphDemand& demand, std::uint64_t now_ns);
  /// The same, but nothing is remembered.
  Forecast look(const GraphDemand& demand, std::uint64_t now_ns) const;
  std::size_t accepted_of(std::uint32_t user) const;
  /// Of an accepted graph, some work is done.
  void progressed(GraphId graph, double work_ns);
  /// An accepted graph is done (or was cancelled, or failed: then nothing is learned).
  void finished(GraphId graph, std::uint64_t now_ns, bool cancelled = false);
  /// Work that is of no accepted graph has come, or is done.
  void arrived(std::uint32_t user, std::int32_t priority, double work_ns);
  void left(std::uint32_t user, std::int32_t priority, double work_ns);

  /// How far predictions were off, to be kept over restarts; restored for users of whom nothing is
  /// known yet.
  std::vector<SavedBias> save() const;
  void restore(const std::vector<SavedBias>& saved);

 private:
  struct Accepted {
    std::uint32_t user;
    double left_ns;
    std::uint64_t asked_ns;
    double predicted_ns;  ///< from being asked to the finish
    std::uint64_t deadline_ns;
    bool known;
  };
  struct Work {
    double sum_ns = 0;
    std::uint64_t tasks = 0;
  };
  struct User {
    std::map<std::int32_t, Work> plain;                  ///< not of accepted graphs, by priority
    std::set<std::pair<std::uint64_t, GraphId>> graphs;  ///< accepted, by deadline
    double sum_ns = 0;                                   ///< all of the above
    History bias;                                        ///< of ln(actual / predicted)
    /// Graphs are few, so it moves fast, and as far as it takes. Most have time to spare: with
    /// 1.645, which is right for one whose deadline is just at its p95, one in fifty would be late.
    QuantileTracker tracker{0.2, -3, 0.5};
    std::uint64_t last_use = 0;

    double quantile(double predicted_ns) const;
    double mean(double predicted_ns) const;
    bool is_idle() const { return plain.empty() && graphs.empty(); }
  };

  User& user_of(std::uint32_t id);
  const User* find(std::uint32_t id) const;
  /// How long it takes until so much work of the user is done. `more_ns` comes from user `whose`.
  double shared_ns(std::uint32_t user, double own_ns, std::uint32_t whose, double more_ns) const;
  double before_ns(const GraphDemand& demand) const;
  bool would_harm(const GraphDemand& demand, std::uint64_t now_ns) const;

  std::map<std::uint32_t, User> users_;
  std::map<GraphId, Accepted> accepted_;
  std::uint64_t uses_ = 0;
};

}  // namespace aios::scheduler
