#include "services/scheduler/core/parts/admission.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "services/scheduler/core/parts/limits.hpp"

namespace aios::scheduler {
namespace {

/// Before any graph was seen: predictions are right on average, but for a factor of 1.3.
constexpr double unknown_sd = 0.3;

std::uint64_t later(std::uint64_t now_ns, double by_ns) {
  return now_ns + static_cast<std::uint64_t>(std::min(by_ns, far_ns));
}

}  // namespace

double Admission::User::quantile(double predicted_ns) const {
  if (bias.samples() == 0) return predicted_ns * std::exp(tracker.z() * unknown_sd);
  return predicted_ns * std::exp(bias.mean() + tracker.z() * bias.predictive_sd());
}

double Admission::User::mean(double predicted_ns) const {
  return bias.samples() == 0 ? predicted_ns : predicted_ns * std::exp(bias.mean());
}

const Admission::User* Admission::find(std::uint32_t id) const {
  const auto at = users_.find(id);
  return at == users_.end() ? nullptr : &at->second;
}

Admission::User& Admission::user_of(std::uint32_t id) {
  auto known = users_.find(id);
  if (known == users_.end() && users_.size() >= max_users) {
    auto oldest = users_.end();
    for (auto at = users_.begin(); at != users_.end(); ++at)
      if (at->second.is_idle() &&
          (oldest == users_.end() || at->second.last_use < oldest->second.last_use))
        oldest = at;
    if (oldest != users_.end()) users_.erase(oldest);
  }
  if (known == users_.end()) known = users_.try_emplace(id).first;
  known->second.last_use = ++uses_;
  return known->second;
}

std::size_t Admission::accepted_of(std::uint32_t id) const {
  const User* user = find(id);
  return user == nullptr ? 0 : user->graphs.size();
}

double Admission::shared_ns(std::uint32_t user, double own_ns, std::uint32_t whose,
                            double more_ns) const {
  double sum = own_ns;
  for (const auto& [id, other] : users_)
    if (id != user) sum += std::min(own_ns, other.sum_ns + (id == whose ? more_ns : 0));
  if (whose != user && !users_.contains(whose)) sum += std::min(own_ns, more_ns);
  return sum;
}

/// Of the same user: graphs that are due no later, and what has a higher priority.
double Admission::before_ns(const GraphDemand& demand) const {
  const User* user = find(demand.user);
  if (user == nullptr) return 0;
  double sum = 0;
  for (const auto& [deadline_ns, graph] : user->graphs) {
    if (deadline_ns > demand.deadline_ns) break;
    sum += accepted_.at(graph).left_ns;
  }
  for (auto at = user->plain.upper_bound(demand.priority); at != user->plain.end(); ++at)
    sum += at->second.sum_ns;
  return sum;
}

/// Whether an accepted graph would be late: one of the same user that is due later has its work
/// before it then, one of another user shares with it.
bool Admission::would_harm(const GraphDemand& demand, std::uint64_t now_ns) const {
  for (const auto& [id, user] : users_) {
    double due_ns = 0;
    bool counted = id != demand.user;
    for (const auto& [deadline_ns, graph] : user.graphs) {
      const bool is_later = deadline_ns > demand.deadline_ns;
      if (is_later && !std::exchange(counted, true)) due_ns += demand.work_ns;
      due_ns += accepted_.at(graph).left_ns;
      if (id == demand.user && !is_later) continue;
      const auto is_late = [&](double takes_ns) {
        return later(now_ns, user.quantile(takes_ns)) > deadline_ns;
      };
      // One of another user that would be late anyway keeps nobody out.
      if (id != demand.user && is_late(shared_ns(id, due_ns, id, 0))) continue;
      if (is_late(shared_ns(id, due_ns, demand.user, demand.work_ns))) return true;
    }
  }
  return false;
}

Forecast Admission::look(const GraphDemand& demand, std::uint64_t now_ns) const {
  static const User newcomer;
  const User* known = find(demand.user);
  const User& user = known == nullptr ? newcomer : *known;
  const double own_ns = before_ns(demand) + demand.work_ns;
  // Neither alone: while a long way is gone, there is not always enough beside it for all slots.
  const double predicted_ns =
      std::hypot(demand.critical_path_ns, shared_ns(demand.user, own_ns, demand.user, 0));
  Forecast forecast;
  forecast.predicted_ns = predicted_ns;
  forecast.finish_ns = later(now_ns, user.mean(predicted_ns));
  forecast.finish_p95_ns = later(now_ns, user.quantile(predicted_ns));
  if (forecast.finish_p95_ns > demand.deadline_ns) return forecast;
  forecast.harms_others = would_harm(demand, now_ns);
  forecast.accepted = !forecast.harms_others;
  return forecast;
}

Forecast Admission::ask(GraphId graph, const GraphDemand& demand, std::uint64_t now_ns) {
  assert(accepted_of(demand.user) < max_accepted);
  const Forecast forecast = look(demand, now_ns);
  if (!forecast.accepted) return forecast;
  accepted_[graph] = {demand.user,           demand.work_ns,     now_ns,
                      forecast.predicted_ns, demand.deadline_ns, demand.known};
  User& user = user_of(demand.user);
  user.graphs.emplace(demand.deadline_ns, graph);
  user.sum_ns += demand.work_ns;
  return forecast;
}

void Admission::progressed(GraphId graph, double work_ns) {
  const auto at = accepted_.find(graph);
  if (at == accepted_.end()) return;
  const double done_ns = std::min(work_ns, at->second.left_ns);
  at->second.left_ns -= done_ns;
  users_.at(at->second.user).sum_ns -= done_ns;
}

void Admission::finished(GraphId graph, std::uint64_t now_ns, bool cancelled) {
  const auto at = accepted_.find(graph);
  if (at == accepted_.end()) return;
  const Accepted done = at->second;
  now_ns = std::max(now_ns, done.asked_ns);
  User& user = user_of(done.user);
  accepted_.erase(at);
  user.graphs.erase({done.deadline_ns, graph});
  user.sum_ns = user.is_idle() ? 0 : user.sum_ns - done.left_ns;
  if (cancelled || !done.known) return;
  user.bias.learn(std::log(std::max(static_cast<double>(now_ns - done.asked_ns), 1.0) /
                           std::max(done.predicted_ns, 1.0)));
  // What counts in the end is whether deadlines are kept: one in twenty may be missed.
  user.tracker.saw(now_ns <= done.deadline_ns);
}

void Admission::arrived(std::uint32_t id, std::int32_t priority, double work_ns) {
  User& user = user_of(id);
  Work& work = user.plain[priority];
  work.sum_ns += work_ns;
  ++work.tasks;
  user.sum_ns += work_ns;
}

void Admission::left(std::uint32_t id, std::int32_t priority, double work_ns) {
  User& user = users_.at(id);
  const auto at = user.plain.find(priority);
  assert(at != user.plain.end());
  at->second.sum_ns -= work_ns;
  user.sum_ns -= work_ns;
  if (--at->second.tasks == 0) user.plain.erase(at);
  // Sums of many numbers drift.
  if (user.is_idle()) user.sum_ns = 0;
}

std::vector<SavedBias> Admission::save() const {
  std::vector<SavedBias> all;
  for (const auto& [id, user] : users_)
    if (user.bias.samples() > 0)
      all.push_back(
          {id, user.bias.samples(), user.bias.mean(), user.bias.variance(), user.tracker.z()});
  return all;
}

void Admission::restore(const std::vector<SavedBias>& saved) {
  for (const SavedBias& bias : saved) {
    User& user = user_of(bias.user);
    if (user.bias.samples() > 0) continue;
    user.bias.restore(bias.mean, bias.variance, std::min(bias.samples, most_restored_samples));
    user.tracker.restore(bias.z);
  }
}

}  // namespace aios::scheduler
