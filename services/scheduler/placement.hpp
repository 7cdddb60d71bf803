// On which device a task starts. A policy is a pure choice among the devices that could take it
// now.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace aios::scheduler {

using DeviceId = std::uint32_t;

/// A device on which the task's job has a context that would run it at once.
struct Candidate {
  DeviceId device;
  std::uint32_t free_slots;  ///< 0: only for a user of whom nothing else runs
};

class Placement {
 public:
  virtual ~Placement() = default;
  /// One of the candidates, of which there is at least one, ordered by device.
  virtual DeviceId place(std::span<const Candidate> candidates) const = 0;
};

/// The first device with a free slot, else the first one at all.
std::unique_ptr<Placement> make_eager_placement();

}  // namespace aios::scheduler
