#include "services/scheduler/policy/placement.hpp"

namespace aios::scheduler {
namespace {

class EagerPlacement final : public Placement {
 public:
  bool looks_ahead() const override { return false; }
  Choice place(const PlacementFacts&, std::span<const Candidate> candidates) override {
    for (std::uint32_t i = 0; i < candidates.size(); ++i)
      if (candidates[i].free_slots > 0) return {i, Reason::first_free};
    return {0, Reason::first_free};
  }
};

}  // namespace

std::unique_ptr<Placement> make_eager_placement() {
  return std::make_unique<EagerPlacement>();
}

}  // namespace aios::scheduler
