#include "tools/aiosctl/graphs/placements.hpp"

#include <algorithm>
#include <unordered_map>

namespace aios::ctl {

namespace wire = proto::scheduler;

Result<std::vector<Placed>> placements_after(Client& scheduler, std::uint64_t after,
                                             std::size_t most) {
  std::vector<Placed> all;
  while (all.size() < most) {
    const auto one =
        TRY(scheduler.call<wire::PlacementNext>({after, 0}, Deadline::after(call_timeout_ns)));
    if (one.sequence == 0) break;
    after = one.sequence;
    all.push_back(one);
  }
  return all;
}

Result<std::vector<std::string>> device_names(Client& scheduler) {
  return names_of(TRY(list_devices(scheduler)));
}

std::string device_name(const std::vector<std::string>& names, std::uint32_t device) {
  return device < names.size() ? names[device] : "device " + std::to_string(device);
}

std::string_view level_name(std::uint32_t level) {
  constexpr std::string_view names[] = {"none",    "hint",    "regression",
                                        "history", "boosted", "exact"};
  return level < std::size(names) ? names[level] : "unknown";
}

std::string_view reason_text(std::uint32_t reason) {
  constexpr std::string_view texts[] = {
      "no other device could run it",
      "the first device with a free slot",
      "predicted to finish first there",
      "to find out again how long it takes there",
      "where it would finish first the memory has no room for it",
      "those on which it depends are on their way there",
      "where all of its gang had a slot",
      "it waited until the memory there had room for it",
      "where it would finish first the last tasks of its codelet failed",
      "so that its module is loaded there for those that are left",
  };
  return reason < std::size(texts) ? texts[reason] : "for a reason of a later version";
}

Parts parts_of(const Placed& placed) {
  Parts parts;
  parts.compute_ns = static_cast<double>(placed.alone_ns);
  parts.opening_ns = static_cast<double>(placed.opening_ns);
  parts.loading_ns = static_cast<double>(placed.loading_ns);
  if (placed.candidate_count > 0) {
    parts.predicted_transfer_ns = placed.candidates[0].transfer_ns;
    parts.predicted_ns = placed.candidates[0].mean_ns;
  }
  parts.transfer_ns =
      placed.end_ns != 0 ? static_cast<double>(placed.transfer_ns) : parts.predicted_transfer_ns;
  if (placed.start_ns > placed.ready_ns)
    parts.queue_ns = std::max(0.0, static_cast<double>(placed.start_ns - placed.ready_ns) -
                                       parts.opening_ns - parts.loading_ns - parts.transfer_ns);
  parts.queue_ns += std::max(0.0, static_cast<double>(run_ns(placed)) - parts.compute_ns);
  return parts;
}

std::vector<Placed> critical_path(const std::vector<Placed>& all, std::uint64_t job_id) {
  std::unordered_map<std::uint64_t, const Placed*> by_number;
  const Placed* last = nullptr;
  for (const Placed& placed : all) {
    if (placed.job_id != job_id || placed.end_ns == 0) continue;
    by_number[placed.number] = &placed;
    if (last == nullptr || placed.end_ns > last->end_ns) last = &placed;
  }
  std::vector<Placed> path;
  for (const Placed* at = last; at != nullptr && path.size() <= all.size();) {
    path.push_back(*at);
    const auto before = by_number.find(at->after_number);
    at = before == by_number.end() ? nullptr : before->second;
  }
  std::ranges::reverse(path);
  return path;
}

}  // namespace aios::ctl
