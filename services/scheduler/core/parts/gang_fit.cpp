#include "services/scheduler/core/parts/gang_fit.hpp"

namespace aios::scheduler {
namespace {

class Fitting {
 public:
  Fitting(const std::vector<std::vector<DeviceId>>& choices, const std::vector<std::uint32_t>& room)
      : choices_(choices), room_(room), on_(room.size()) {}

  /// Moves others to their other choices where that makes room.
  bool add(std::uint32_t member) {
    looked_at_.assign(room_.size(), false);
    return place(member);
  }
  std::vector<DeviceId> places() const {
    std::vector<DeviceId> of(choices_.size());
    for (DeviceId d = 0; d < on_.size(); ++d)
      for (const std::uint32_t member : on_[d]) of[member] = d;
    return of;
  }

 private:
  /// Never deeper than there are devices: each is looked at once.
  bool place(std::uint32_t member) {
    for (const DeviceId d : choices_[member]) {
      if (looked_at_[d] || on_[d].size() >= room_[d]) continue;
      on_[d].push_back(member);
      return true;
    }
    for (const DeviceId d : choices_[member]) {
      if (looked_at_[d]) continue;
      looked_at_[d] = true;
      for (std::uint32_t& other : on_[d]) {
        if (!place(other)) continue;
        other = member;
        return true;
      }
    }
    return false;
  }

  const std::vector<std::vector<DeviceId>>& choices_;
  const std::vector<std::uint32_t>& room_;
  std::vector<std::vector<std::uint32_t>> on_;  ///< members, by device
  std::vector<bool> looked_at_;
};

}  // namespace

std::optional<std::vector<DeviceId>> fit_gang(const std::vector<std::vector<DeviceId>>& choices,
                                              const std::vector<std::uint32_t>& room) {
  Fitting fitting(choices, room);
  for (std::uint32_t member = 0; member < choices.size(); ++member)
    if (!fitting.add(member)) return std::nullopt;
  return fitting.places();
}

}  // namespace aios::scheduler
