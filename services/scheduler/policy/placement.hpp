// On which device a task starts. A policy is a pure choice among the devices that could run it, now
// or when a slot of theirs gets free: choosing a busy one means to wait for it. The question is put
// again at every decision until the task starts, so a wrong guess about a busy device is corrected
// as soon as it shows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "services/scheduler/costs/costs.hpp"
#include "services/scheduler/policy/order.hpp"

namespace aios::scheduler {

/// A device that could run the task in a context of the task's job.
struct Candidate {
  DeviceId device = 0;
  std::uint32_t free_slots = 0;  ///< 0 though `at_once`: only for a user of whom nothing else runs
  bool at_once = true;           ///< it would start now; otherwise it waits for a slot
  bool opens = false;            ///< a context is opened first, and nothing else is waited for
  // The rest is filled only for policies that look ahead.
  std::uint32_t backend = 0;
  /// When a slot is free, by prediction, after tasks planned before it; of one that several threads
  /// share out, when they would have to begin together so as to end when they will.
  std::uint64_t free_ns = 0;
  std::uint64_t transfer_ns = 0;     ///< to bring there the data that is not
  std::uint64_t transfer_bytes = 0;  ///< how much that is
  std::uint64_t onward_ns = 0;       ///< from its end there to that of all that depends on it
  /// What there can be for it of the device's memory, where that is known, and what it needs: its
  /// data, and the p95 of what it takes besides.
  std::optional<std::uint64_t> memory_free_bytes = {};
  std::uint64_t memory_needed_bytes = 0;
  std::uint64_t memory_wait_ns = 0;  ///< how much of the wait is for others to leave that memory
  const Estimate* cost = nullptr;
  std::uint32_t width = 1;    ///< threads that it keeps busy there
  std::uint32_t stretch = 1;  ///< how often `cost` it takes, for one thread does it
};

struct PlacementFacts {
  std::uint64_t now_ns = 0;
  std::uint64_t slack_ns =
      0;  ///< how much later it may finish without delaying anybody's last task
};

enum class Reason : std::uint8_t {
  only_one,         ///< no other device could run it
  first_free,       ///< the first with a free slot
  earliest_finish,  ///< where it is predicted to finish first
  probe,            ///< to find out again how long it takes there
  memory,           ///< where it would finish first the memory has no room for it
  behind,           ///< those on which it depends are on their way there
  gang,             ///< where all of its gang have a slot
  memory_freed,     ///< it waited until the memory there had room for it
  fails,            ///< its codelet's last tasks failed where it would finish first
  loads,            ///< so that its module is there for those that are left
};

struct Choice {
  std::uint32_t candidate = 0;  ///< its index
  Reason reason = Reason::first_free;
};

class Placement {
 public:
  virtual ~Placement() = default;
  /// Whether it wants busy devices, times and costs; without them a decision is cheaper, and only
  /// devices that would start the task at once are candidates.
  virtual bool looks_ahead() const = 0;
  /// Whether it also wants to know what comes after the task (onward.hpp).
  virtual bool looks_onward() const { return false; }
  /// One of the candidates, of which there is at least one, ordered by device.
  virtual Choice place(const PlacementFacts& task, std::span<const Candidate> candidates) = 0;
  /// Whether the device `there`, which has no context or not the task's module, is to have it, so
  /// that it can be tried what the task takes there, which goes to `best`.
  virtual bool opens_to_try(const PlacementFacts& /*task*/, const Candidate& /*there*/,
                            const Candidate& /*best*/) const {
    return false;
  }
};

/// When the task would be done there. Saturates.
inline std::uint64_t finish_ns(const Candidate& candidate) {
  // Far above every time that makes sense, and far from overflow.
  constexpr double most = 4e18;
  return candidate.free_ns + candidate.transfer_ns +
         static_cast<std::uint64_t>(std::min(candidate.cost->time.mean * candidate.stretch, most));
}

/// When all that depends on it would be done, too, as far as that is told.
inline std::uint64_t through_ns(const Candidate& candidate) {
  return finish_ns(candidate) + candidate.onward_ns;
}

/// Whether there can be room for it; so, too, where it is not known how much there is.
inline bool memory_fits(const Candidate& candidate) {
  return !candidate.memory_free_bytes ||
         candidate.memory_needed_bytes <= *candidate.memory_free_bytes;
}

/// The first device with a free slot, else the first one at all.
std::unique_ptr<Placement> make_eager_placement();
/// Where it is predicted to finish first, data moved and slots awaited.
std::unique_ptr<Placement> make_earliest_finish_placement();
/// The same, with what comes after the task (onward.hpp); soon one of those devices where nothing
/// like it ever ran; and now and then one that was passed over for long, for tasks that can afford
/// it: an estimate that is wrong would otherwise never be put right.
std::unique_ptr<Placement> make_learned_placement();

}  // namespace aios::scheduler
