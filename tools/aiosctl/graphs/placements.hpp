// What the scheduler keeps of its placements, for explain, bottlenecks and trace.
#pragma once

#include <string>
#include <vector>

#include "abi/proto/scheduler.hpp"
#include "tools/aiosctl/common/listings.hpp"

namespace aios::ctl {

using Placed = proto::scheduler::PlacementNext::Reply;

/// From the first with a sequence above `after` on, at most `most`.
Result<std::vector<Placed>> placements_after(Client& scheduler, std::uint64_t after,
                                             std::size_t most);

/// "cpu0", "gpu1"; by device.
Result<std::vector<std::string>> device_names(Client& scheduler);
std::string device_name(const std::vector<std::string>& names, std::uint32_t device);

/// What a prediction is founded on: "none", "hint", ...
std::string_view level_name(std::uint32_t level);
/// Why a device was chosen, in words.
std::string_view reason_text(std::uint32_t reason);

/// Run time on the device; 0 while it has none.
inline std::uint64_t run_ns(const Placed& placed) {
  return placed.end_ns > placed.start_ns ? placed.end_ns - placed.start_ns : 0;
}

/// Why one task took the time it took: from being ready to its end.
struct Parts {
  double queue_ns = 0;    ///< waiting for a slot and for its turns in the context
  double opening_ns = 0;  ///< waiting for a context on its device
  double loading_ns = 0;  ///< and for its module there
  /// Copying its data there and back: measured once it has run, before that as predicted.
  double transfer_ns = 0;
  double predicted_transfer_ns = 0;
  double compute_ns = 0;    ///< without what others had of its threads meanwhile
  double predicted_ns = 0;  ///< of compute; 0 without a model
};
Parts parts_of(const Placed& placed);

/// The tasks that determined when the last task of the same job ended, from the first to the last.
std::vector<Placed> critical_path(const std::vector<Placed>& all, std::uint64_t job_id);

}  // namespace aios::ctl
