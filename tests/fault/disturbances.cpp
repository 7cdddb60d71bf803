#include "tests/fault/disturbances.hpp"

#include "abi/runtime/time.hpp"

namespace aios::fault {

void Disturbances::begin(Parts which, Codes allowed) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t now = now_ns();
  for (std::size_t i = 0; i < part_count; ++i) {
    if ((which >> i & 1) == 0) continue;
    State& state = states_[i];
    if (state.any++ == 0) state.since_ns = now;
    for (std::size_t code = 0; code < 32; ++code)
      if ((allowed >> code & 1) != 0) ++state.active[code];
  }
}

void Disturbances::end(Parts which, Codes allowed) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t now = now_ns();
  for (std::size_t i = 0; i < part_count; ++i) {
    if ((which >> i & 1) == 0) continue;
    State& state = states_[i];
    if (--state.any == 0) state.total_ns += now - state.since_ns;
    for (std::size_t code = 0; code < 32; ++code) {
      if ((allowed >> code & 1) == 0) continue;
      --state.active[code];
      state.ended_ns[code] = now;
    }
  }
}

bool Disturbances::excuse(Parts which, Code code, std::uint64_t begin_ns,
                          std::uint64_t aftermath_ns) const {
  const std::lock_guard lock(mutex_);
  const auto number = static_cast<std::size_t>(code);
  if (number >= 32) return false;
  for (std::size_t i = 0; i < part_count; ++i) {
    if ((which >> i & 1) == 0) continue;
    const State& state = states_[i];
    if (state.active[number] != 0) return true;
    if (state.ended_ns[number] != 0 && state.ended_ns[number] + aftermath_ns >= begin_ns)
      return true;
  }
  return false;
}

std::uint64_t Disturbances::total_ns(Parts which) const {
  const std::lock_guard lock(mutex_);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < part_count; ++i) {
    if ((which >> i & 1) == 0) continue;
    const State& state = states_[i];
    total += state.total_ns + (state.any != 0 ? now_ns() - state.since_ns : 0);
  }
  return total;
}

Judged::Judged(const Disturbances& all, Parts which, std::uint64_t timeout_ns,
               std::uint64_t aftermath_ns)
    : all_(all),
      which_(which),
      timeout_ns_(timeout_ns),
      aftermath_ns_(aftermath_ns),
      begin_ns_(now_ns()),
      disturbed_ns_(all.total_ns(which)) {}

bool Judged::excuses(Code code) const {
  if (code == Code::timed_out) return all_.total_ns(which_) - disturbed_ns_ >= timeout_ns_ / 2;
  return all_.excuse(which_, code, begin_ns_, aftermath_ns_);
}

}  // namespace aios::fault
