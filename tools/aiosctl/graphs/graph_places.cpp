#include "tools/aiosctl/graphs/graph_places.hpp"

#include <algorithm>

#include "tools/aiosctl/common/operator.hpp"

namespace aios::ctl {

namespace wire = proto::scheduler;

namespace {

bool is_under_way(const Placed& placed) {
  return placed.state == static_cast<std::uint32_t>(wire::TaskState::running);
}

}  // namespace

Result<Placed> GraphPlaces::after(std::uint64_t sequence) {
  return scheduler_.call<wire::PlacementNext>({sequence, 0}, Deadline::after(call_timeout_ns));
}

/// They are in order of time: in ever larger steps, then in ever smaller ones.
Result<void> GraphPlaces::begin(std::uint64_t since_ns) {
  std::uint64_t below = 0, step = 1;
  while (true) {
    const Placed next = TRY(after(below + step));
    if (next.sequence != 0 && next.placed_ns < since_ns) {
      below = next.sequence;
      step *= 2;
    } else if (step > 1) {
      step /= 2;
    } else {
      last_ = below;
      return {};
    }
  }
}

Result<void> GraphPlaces::take() {
  for (auto one = on_their_way_.begin(); one != on_their_way_.end();) {
    const Placed placed = TRY(after(*one - 1));
    // One that is forgotten, or of which the task has been placed again, has no more to tell.
    const auto known = places_.find(placed.tag);
    // A scheduler that has been started anew counts from 1 again, for everybody's tasks.
    const bool is_last = placed.sequence == *one && placed.job_id == job_id_ &&
                         known != places_.end() && known->second.placed_ns == placed.placed_ns;
    if (is_last) note(placed);
    one = is_last && is_under_way(placed) ? std::next(one) : on_their_way_.erase(one);
  }
  while (true) {
    const Placed placed = TRY(after(last_));
    if (placed.sequence == 0) return {};
    last_ = placed.sequence;
    if (placed.job_id != job_id_) continue;
    note(placed);
    if (is_under_way(placed)) on_their_way_.insert(placed.sequence);
  }
}

void GraphPlaces::note(const Placed& placed) {
  const wire::LoggedCandidate& chosen = placed.candidates[0];
  places_[placed.tag] = {.device = chosen.device,
                         .is_predicted = chosen.level != 0 || chosen.mean_ns > 0,
                         .predicted_ns = chosen.mean_ns,
                         .submitted_ns = placed.submitted_ns,
                         .ready_ns = placed.ready_ns,
                         .placed_ns = placed.placed_ns,
                         .opening_ns = placed.opening_ns,
                         .loading_ns = placed.loading_ns,
                         .transfer_ns = placed.transfer_ns,
                         .ahead_ns = std::min(placed.ahead_ns, placed.transfer_ns),
                         .alone_ns = placed.alone_ns,
                         .width = std::max<std::uint32_t>(placed.width, 1)};
}

std::optional<TaskPlace> GraphPlaces::of(std::uint64_t tag) const {
  const auto found = places_.find(tag);
  return found == places_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace aios::ctl
