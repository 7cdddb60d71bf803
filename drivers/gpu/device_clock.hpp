// What time it was on the host when something happened by a device's clock, which has another
// origin and goes a little faster or slower.
#pragma once

#include <algorithm>
#include <cstdint>

namespace aios::gpu {

/// The host hears of an event some time after it happened: how far the clocks are apart is told by
/// the event of which it heard soonest, of the last second or two. One thread at a time.
class DeviceClock {
 public:
  /// At `now_ns` of the host's clock an event of `device_ns` was known to have happened. Returns
  /// when it did by the host's clock, never after `now_ns`.
  std::uint64_t saw(std::uint64_t device_ns, std::uint64_t now_ns) {
    const auto apart = static_cast<std::int64_t>(now_ns - device_ns);
    if (now_ns - since_ns_ > window_ns) {
      // Of an age ago nothing is known.
      before_ = now_ns - since_ns_ > 2 * window_ns ? apart : least_;
      least_ = apart;
      since_ns_ = now_ns;
    }
    least_ = std::min(least_, apart);
    return to_host(device_ns);
  }
  /// The same of an earlier event, near the last that was seen.
  std::uint64_t to_host(std::uint64_t device_ns) const {
    return device_ns + static_cast<std::uint64_t>(std::min(least_, before_));
  }

 private:
  static constexpr std::uint64_t window_ns = 1'000'000'000;
  std::uint64_t since_ns_ = 0;
  std::int64_t least_ = 0;   ///< of this window
  std::int64_t before_ = 0;  ///< of the one before
};

}  // namespace aios::gpu
