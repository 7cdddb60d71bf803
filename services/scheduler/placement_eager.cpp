#include "services/scheduler/placement.hpp"

namespace aios::scheduler {
namespace {

class EagerPlacement final : public Placement {
 public:
  DeviceId place(std::span<const Candidate> candidates) const override {
    for (const Candidate& c : candidates)
      if (c.free_slots > 0) return c.device;
    return candidates.front().device;
  }
};

}  // namespace

std::unique_ptr<Placement> make_eager_placement() {
  return std::make_unique<EagerPlacement>();
}

}  // namespace aios::scheduler
