#include <algorithm>

#include "services/scheduler/policy/placement.hpp"

namespace aios::scheduler {
namespace {

/// Share of the time of those who were preferred that probing may take.
constexpr double probe_share = 0.03;
/// So many decisions against a device are needed at least, and are enough whatever the task is
/// believed to take there.
constexpr std::uint32_t probe_after_least = 64;
constexpr std::uint32_t probe_after_most = 2048;
/// So many where nothing like it ever ran, and it is not guessed to take so many times as long.
constexpr std::uint32_t try_after = 2;
constexpr double try_within = 4;

class LearnedPlacement final : public Placement {
 public:
  bool looks_ahead() const override { return true; }
  bool looks_onward() const override { return true; }

  Choice place(const PlacementFacts& task, std::span<const Candidate> candidates) override {
    const Choice best = earliest_->place(task, candidates);
    for (std::uint32_t i = 0; i < candidates.size(); ++i)
      if (i != best.candidate && is_due(task, candidates[i], candidates[best.candidate]))
        return {i, Reason::probe};
    return best;
  }

  bool opens_to_try(const PlacementFacts& task, const Candidate& there,
                    const Candidate& best) const override {
    if (wait_ns(task, there) > affordable_ns(there) ||
        static_cast<double>(there.transfer_ns) > best.cost->time.mean)
      return false;
    if (there.cost->level > Level::hint) return there.cost->passed_over >= probe_after_most;
    return there.cost->fruitless == 0 && there.cost->time.mean <= try_within * best.cost->time.mean;
  }

 private:
  static double wait_ns(const PlacementFacts& task, const Candidate& there) {
    return static_cast<double>(there.free_ns - std::min(there.free_ns, task.now_ns));
  }
  static double affordable_ns(const Candidate& there) {
    return there.cost->passed_over_ns * probe_share;
  }
  static bool is_due(const PlacementFacts& task, const Candidate& there, const Candidate& best) {
    const std::uint32_t passed_over = there.cost->passed_over;
    if (there.free_slots == 0 || !memory_fits(there)) return false;
    const bool is_guess = there.cost->level <= Level::hint;
    if (is_guess && is_worth_a_try(there, best)) return true;
    if (passed_over < (is_guess ? probe_after_fruitless(there) : probe_after_least)) return false;
    if (!there.at_once) return false;
    // What is known of its costs is not what a probe is for: to wait there, as for a module to be
    // compiled, and to move its data.
    const double may_take_ns = affordable_ns(there);
    if (passed_over >= probe_after_most)
      return wait_ns(task, there) <= may_take_ns &&
             static_cast<double>(there.transfer_ns) <= best.cost->time.mean;
    const std::uint64_t late_ns = through_ns(there) - std::min(through_ns(there), through_ns(best));
    return late_ns <= task.slack_ns && wait_ns(task, there) + there.cost->time.mean <= may_take_ns;
  }

  /// What was placed there has failed, or has not ended: half as often each time.
  static std::uint32_t probe_after_fruitless(const Candidate& there) {
    std::uint32_t after = probe_after_least;
    for (std::uint32_t i = 1; i < there.cost->fruitless && after < probe_after_most; ++i)
      after *= 2;
    return after;
  }

  /// There is nothing but a guess, and if that were far too high it would be done sooner there.
  static bool is_worth_a_try(const Candidate& there, const Candidate& best) {
    const bool is_new = there.cost->fruitless == 0;
    return there.cost->passed_over >= (is_new ? try_after : probe_after_fruitless(there)) &&
           (there.at_once || there.opens) &&
           there.cost->time.mean <= try_within * best.cost->time.mean &&
           there.free_ns + there.transfer_ns + there.onward_ns < through_ns(best);
  }

  std::unique_ptr<Placement> earliest_ = make_earliest_finish_placement();
};

}  // namespace

std::unique_ptr<Placement> make_learned_placement() {
  return std::make_unique<LearnedPlacement>();
}

}  // namespace aios::scheduler
