#include "services/scheduler/policy/placement.hpp"

namespace aios::scheduler {
namespace {

class EarliestFinishPlacement final : public Placement {
 public:
  bool looks_ahead() const override { return true; }

  /// Where nothing fits, the earliest at all: what needs more than it ever did before may still
  /// succeed, and the device refuses what does not.
  Choice place(const PlacementFacts&, std::span<const Candidate> candidates) override {
    if (candidates.size() == 1) return {0, Reason::only_one};
    std::uint32_t first = none, fitting = none;
    std::uint64_t first_ns = ~std::uint64_t{0}, fitting_ns = ~std::uint64_t{0};
    for (std::uint32_t i = 0; i < candidates.size(); ++i) {
      const std::uint64_t end_ns = through_ns(candidates[i]);
      if (end_ns < first_ns) first = i, first_ns = end_ns;
      if (end_ns < fitting_ns && memory_fits(candidates[i])) fitting = i, fitting_ns = end_ns;
    }
    if (fitting == none || fitting == first) return {first, Reason::earliest_finish};
    return {fitting, Reason::memory};
  }

 private:
  static constexpr std::uint32_t none = ~0u;
};

}  // namespace

std::unique_ptr<Placement> make_earliest_finish_placement() {
  return std::make_unique<EarliestFinishPlacement>();
}

}  // namespace aios::scheduler
