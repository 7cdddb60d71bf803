#include "services/scheduler/admission.hpp"

#include <algorithm>
#include <cmath>

namespace aios::scheduler {
namespace {

/// Before any graph was seen: predictions are right on average, but for a factor of 1.3.
constexpr double unknown_sd = 0.3;

}  // namespace

double Admission::work_due_by(std::uint64_t deadline_ns) const {
  double sum = 0;
  for (const auto& [id, graph] : accepted_)
    if (graph.deadline_ns <= deadline_ns) sum += graph.left_ns;
  return sum;
}

double Admission::predicted_ns(const GraphDemand& demand, double before_ns) const {
  return std::max(demand.critical_path_ns, (before_ns + demand.work_ns) / slots_);
}

double Admission::quantile(double predicted_ns) const {
  if (bias_.samples() == 0) return predicted_ns * std::exp(tracker_.z() * unknown_sd);
  return predicted_ns * std::exp(bias_.mean() + tracker_.z() * bias_.predictive_sd());
}

Verdict Admission::ask(GraphId graph, const GraphDemand& demand, std::uint64_t now_ns) {
  Verdict verdict;
  const double predicted = predicted_ns(demand, work_due_by(demand.deadline_ns));
  const double center = bias_.samples() == 0 ? 0 : bias_.mean();
  verdict.finish_ns = now_ns + static_cast<std::uint64_t>(predicted * std::exp(center));
  verdict.finish_p95_ns = now_ns + static_cast<std::uint64_t>(quantile(predicted));
  if (verdict.finish_p95_ns > demand.deadline_ns) return verdict;
  // Those with later deadlines have its work before them now.
  for (const auto& [id, other] : accepted_) {
    if (other.deadline_ns <= demand.deadline_ns) continue;
    const double due = work_due_by(other.deadline_ns) + demand.work_ns;
    const double late = static_cast<double>(now_ns) + quantile(due / slots_);
    verdict.harms_others |= late > static_cast<double>(other.deadline_ns);
  }
  if (verdict.harms_others) return verdict;
  verdict.accepted = true;
  accepted_[graph] = {demand.work_ns, now_ns, predicted, demand.deadline_ns};
  return verdict;
}

void Admission::progressed(GraphId graph, double work_ns) {
  const auto at = accepted_.find(graph);
  if (at != accepted_.end()) at->second.left_ns = std::max(at->second.left_ns - work_ns, 0.0);
}

void Admission::finished(GraphId graph, std::uint64_t now_ns, bool cancelled) {
  const auto at = accepted_.find(graph);
  if (at == accepted_.end()) return;
  const Accepted done = at->second;
  accepted_.erase(at);
  if (cancelled) return;
  bias_.learn(std::log(std::max(static_cast<double>(now_ns - done.asked_ns), 1.0) /
                       std::max(done.predicted_ns, 1.0)));
  // What counts in the end is whether deadlines are kept: one in twenty may be missed.
  tracker_.saw(now_ns <= done.deadline_ns);
}

}  // namespace aios::scheduler
