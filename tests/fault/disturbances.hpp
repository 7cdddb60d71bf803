// Which parts of the instance are being harmed when: a failed call is excused only by a fault that
// explains its status, on a part that it needed, while it was under way.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <string_view>

#include "abi/runtime/status.hpp"

namespace aios::fault {

enum class Part : std::uint8_t {
  storage,
  scheduler,
  cpu,
  mapreduce,
  echo,
  supervisor,
  contexts,
  count
};
inline constexpr std::size_t part_count = static_cast<std::size_t>(Part::count);
inline constexpr std::array<std::string_view, part_count> part_names = {
    "storage", "scheduler", "cpu", "mapreduce", "echo", "supervisor", "cpu-context"};

constexpr std::string_view name_of(Part part) {
  return part_names[static_cast<std::size_t>(part)];
}

/// A set of parts, one bit for each.
using Parts = std::uint32_t;
constexpr Parts bit(Part part) {
  return 1u << static_cast<unsigned>(part);
}
constexpr Parts parts(std::initializer_list<Part> list) {
  Parts set = 0;
  for (const Part part : list) set |= bit(part);
  return set;
}
inline constexpr Parts all_parts = (1u << part_count) - 1;

/// A set of status codes, one bit for each.
using Codes = std::uint32_t;
constexpr Codes codes(std::initializer_list<Code> list) {
  Codes set = 0;
  for (const Code code : list) set |= 1u << static_cast<unsigned>(code);
  return set;
}
/// What calls may say of a server or context that ended.
inline constexpr Codes death = codes({Code::peer_closed, Code::indeterminate, Code::crashed});
/// What they may say for want of something.
inline constexpr Codes want =
    codes({Code::quota, Code::no_memory, Code::no_space, Code::busy, Code::peer_closed});

class Disturbances {
 public:
  void begin(Parts which, Codes allowed);
  void end(Parts which, Codes allowed);

  /// Whether a call that needed `which` from `begin_ns` until now may have ended with `code`.
  /// What a fault sets off may go on for `aftermath_ns` after it.
  bool excuse(Parts which, Code code, std::uint64_t begin_ns, std::uint64_t aftermath_ns) const;
  /// How long the parts were disturbed so far, added up.
  std::uint64_t total_ns(Parts which) const;

 private:
  struct State {
    std::array<std::uint32_t, 32> active{};
    std::array<std::uint64_t, 32> ended_ns{};
    std::uint32_t any = 0;  ///< disturbances under way
    std::uint64_t since_ns = 0;
    std::uint64_t total_ns = 0;
  };
  mutable std::mutex mutex_;
  std::array<State, part_count> states_;
};

/// Judges how a call ended that is made while this object lives.
class Judged {
 public:
  /// The call needs `which` and has `timeout_ns`; what a fault sets off may go on for
  /// `aftermath_ns`.
  Judged(const Disturbances& all, Parts which, std::uint64_t timeout_ns,
         std::uint64_t aftermath_ns = 0);
  /// Whether it may have ended with `code` by now. Who lives on the other side answers, so it runs
  /// out of time only when that was held up for half of it.
  bool excuses(Code code) const;

 private:
  const Disturbances& all_;
  Parts which_;
  std::uint64_t timeout_ns_;
  std::uint64_t aftermath_ns_;
  std::uint64_t begin_ns_;
  std::uint64_t disturbed_ns_;
};

/// One that ends with its scope.
class Disturbance {
 public:
  Disturbance(Disturbances& all, Parts which, Codes allowed)
      : all_(all), which_(which), allowed_(allowed) {
    all_.begin(which_, allowed_);
  }
  ~Disturbance() { all_.end(which_, allowed_); }
  Disturbance(const Disturbance&) = delete;

 private:
  Disturbances& all_;
  Parts which_;
  Codes allowed_;
};

}  // namespace aios::fault
