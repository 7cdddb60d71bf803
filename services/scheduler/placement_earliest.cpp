#include <algorithm>

#include "services/scheduler/placement.hpp"

namespace aios::scheduler {
namespace {

bool fits(const Candidate& candidate) {
  return candidate.cost->memory.p95 <= static_cast<double>(candidate.memory_free_bytes);
}

class EarliestFinishPlacement final : public Placement {
 public:
  bool looks_ahead() const override { return true; }

  /// Where nothing fits, the earliest at all: what needs more than it ever did before may still
  /// succeed, and the device refuses what does not.
  Choice place(const PlacementFacts&, std::span<const Candidate> candidates) override {
    if (candidates.size() == 1) return {0, Reason::only_one};
    const std::uint32_t first = earliest(candidates, false);
    const std::uint32_t fitting = earliest(candidates, true);
    if (fitting == candidates.size() || fitting == first) return {first, Reason::earliest_finish};
    return {fitting, Reason::memory};
  }

 private:
  static std::uint32_t earliest(std::span<const Candidate> candidates, bool must_fit) {
    auto best = static_cast<std::uint32_t>(candidates.size());
    std::uint64_t best_ns = 0;
    for (std::uint32_t i = 0; i < candidates.size(); ++i) {
      if (must_fit && !fits(candidates[i])) continue;
      const std::uint64_t end = finish_ns(candidates[i]);
      if (best < candidates.size() && end >= best_ns) continue;
      best = i;
      best_ns = end;
    }
    return best;
  }
};

}  // namespace

std::uint64_t finish_ns(const Candidate& candidate) {
  // Far above every time that makes sense, and far from overflow.
  constexpr double most = 4e18;
  const double end = static_cast<double>(candidate.free_ns) +
                     static_cast<double>(candidate.transfer_ns) + candidate.cost->time.mean;
  return static_cast<std::uint64_t>(std::min(end, most));
}

std::unique_ptr<Placement> make_earliest_finish_placement() {
  return std::make_unique<EarliestFinishPlacement>();
}

}  // namespace aios::scheduler
