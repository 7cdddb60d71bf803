#include "abi/runtime/in_flight.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstring>

namespace aios {

namespace {
constexpr std::uint64_t magic = 0x31746c6667696c66;  // changes with the layout
}  // namespace

struct InFlight::Suspect {
  RequestId id;
  std::uint64_t since_ns;  ///< 0: the place is free
  std::uint32_t attempts;  ///< lives that ended while it ran
  std::uint32_t crashes;   ///< of those, by the server's own doing
  std::uint32_t lone_crashes;
  std::uint32_t reserved;
};

struct InFlight::Memory {
  struct Running {
    RequestId id;
    std::uint64_t used;  ///< written last when it begins, first when it ends
  };
  std::uint64_t magic;
  Running running[max_running];
  Suspect suspects[max_suspects];
};

InFlight::InFlight(std::span<std::byte> memory, bool crashed, std::uint64_t now_ns)
    : memory_(*reinterpret_cast<Memory*>(memory.data())) {
  static_assert(sizeof(Memory) <= memory_bytes);
  assert(memory.size() >= memory_bytes);
  if (memory_.magic != magic) {
    std::memset(memory.data(), 0, memory.size());
    memory_.magic = magic;
  }
  take_over(crashed, now_ns);
}

void InFlight::take_over(bool crashed, std::uint64_t now_ns) {
  for (Suspect& suspect : memory_.suspects)
    if (suspect.since_ns + memory_ns < now_ns || suspect.since_ns > now_ns) suspect = {};
  const auto count = std::ranges::count_if(
      memory_.running, [](const Memory::Running& entry) { return entry.used != 0; });
  for (Memory::Running& entry : memory_.running) {
    if (entry.used == 0) continue;
    entry.used = 0;
    Suspect& suspect = find_or_make(entry.id);
    suspect.since_ns = now_ns;
    ++suspect.attempts;
    if (crashed) ++suspect.crashes;
    if (crashed && count == 1) ++suspect.lone_crashes;
  }
  suspects_ = static_cast<std::uint32_t>(std::ranges::count_if(
      memory_.suspects, [](const Suspect& suspect) { return suspect.since_ns != 0; }));
}

InFlight::Suspect* InFlight::find(const RequestId& id) const {
  for (Suspect& suspect : memory_.suspects)
    if (suspect.since_ns != 0 && suspect.id == id) return &suspect;
  return nullptr;
}

/// When all places are taken, the one that was suspected longest ago gives way.
InFlight::Suspect& InFlight::find_or_make(const RequestId& id) {
  if (Suspect* known = find(id)) return *known;
  Suspect& place = *std::ranges::min_element(
      memory_.suspects, {}, [](const Suspect& suspect) { return suspect.since_ns; });
  place = {.id = id, .since_ns = 0, .attempts = 0, .crashes = 0, .lone_crashes = 0, .reserved = 0};
  return place;
}

InFlight::Verdict InFlight::judge(const RequestId& id) const {
  if (suspects_ == 0) return Verdict::run;
  const Suspect* suspect = find(id);
  if (suspect == nullptr) return Verdict::run;
  if (suspect->lone_crashes >= max_lone_crashes) return Verdict::poison;
  if (suspect->attempts >= max_attempts) return Verdict::exhausted;
  return suspect->crashes != 0 ? Verdict::alone : Verdict::run;
}

std::uint32_t InFlight::begin(const RequestId& id) {
  ++running_;
  for (std::uint32_t tries = 0; tries < max_running; ++tries) {
    const std::uint32_t slot = (next_ + tries) % max_running;
    Memory::Running& entry = memory_.running[slot];
    if (entry.used != 0) continue;
    next_ = slot;
    entry.id = id;
    std::atomic_ref(entry.used).store(1, std::memory_order_release);
    return slot;
  }
  return untracked;
}

void InFlight::end(std::uint32_t slot) {
  assert(running_ > 0);
  --running_;
  if (slot == untracked) return;
  Memory::Running& entry = memory_.running[slot];
  std::atomic_ref(entry.used).store(0, std::memory_order_release);
  if (suspects_ == 0) return;
  if (Suspect* cleared = find(entry.id)) {
    *cleared = {};
    --suspects_;
  }
}

}  // namespace aios
