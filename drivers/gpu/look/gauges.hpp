// Tells how busy and how warm GPUs are, every two seconds, from outside of the driver: the library
// that knows may take long, hang or crash, and must not stay in the driver.
//
// A helper (helper_process.hpp) keeps a child that has loaded the library, asks it, and ends it
// when it does not answer in time; another is tried half a minute later.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "abi/runtime/event_loop.hpp"
#include "drivers/device/driver_server.hpp"

namespace aios::gpu {

/// A GPU that is asked after.
struct GaugeSubject {
  std::string pci_address;
  std::string uuid;
  bool operator==(const GaugeSubject&) const = default;
};

/// What the helper answers: readings by uuid, and why there are none (empty: there are).
struct GaugeAnswer {
  std::map<std::string, device::Readings> readings;
  std::string why_not;
};
/// Nothing when the text is cut off or is none.
std::optional<GaugeAnswer> parse_gauges(std::string_view text);

class Gauges {
 public:
  /// Before this process locks itself in and has threads. A library that has not answered after
  /// `limit_ms` is given up. `changed` is called from the loop when why_not() has changed.
  static Result<std::unique_ptr<Gauges>> start(EventLoop& loop, unsigned limit_ms,
                                               std::function<void()> changed);
  Gauges(const Gauges&) = delete;
  ~Gauges();

  /// From now on asks after these, at first at once; with none it rests.
  void watch(std::vector<GaugeSubject> subjects);
  /// By the last answer; nothing of a GPU that it did not name.
  device::Readings of(const std::string& uuid) const;
  /// Why nothing is known; empty: something is, or nothing is to be.
  const std::string& why_not() const { return answer_.why_not; }

 private:
  Gauges(EventLoop& loop, std::function<void()> changed)
      : loop_(loop), changed_(std::move(changed)) {}
  void ask();
  void read();
  void take(GaugeAnswer answer);
  void give_up();

  EventLoop& loop_;
  const std::function<void()> changed_;
  Fd socket_;
  std::vector<GaugeSubject> subjects_;
  GaugeAnswer answer_;
  std::string text_;
  bool asking_ = false;
  TimerId timer_ = 0;
};

}  // namespace aios::gpu
