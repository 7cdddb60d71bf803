// The calls of one connection that were sent and are not answered yet. A call's id names its place
// and how often the place was used, so that finding the call of an answer is one look and an answer
// that comes too late finds nothing.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "abi/runtime/status.hpp"
#include "abi/runtime/time.hpp"

namespace aios {

class CallTable {
 public:
  using Callback = std::move_only_function<void(Result<std::span<const std::byte>>)>;
  struct Call {
    std::uint32_t id = 0;
    std::uint16_t opcode = 0;
    Deadline deadline = Deadline::never();
    Callback callback;  ///< empty: the place is free, or reserved
    /// What to send again should the connection end, and how often that was done; empty: nothing.
    std::vector<std::byte> request;
    std::uint32_t replays = 0;
  };

  /// More than a server takes on from one client and a ring holds beside.
  static constexpr std::uint32_t max_calls = 1024;

  bool full() const { return size_ == max_calls; }
  std::uint32_t size() const { return size_; }
  /// Takes a place: the id of a call, never 0. Not when full. Until it is filled nothing below
  /// finds it.
  std::uint32_t reserve(std::uint16_t opcode);
  /// What becomes of the call that was reserved as `id`. `request`, unless empty, is to be sent
  /// again should the connection end.
  void fill(std::uint32_t id, Deadline deadline, Callback callback,
            std::vector<std::byte> request = {}, std::uint32_t replays = 0);
  /// Gives back a place that was reserved and not filled.
  void release(std::uint32_t id);
  /// Nothing when no call has this id, or no longer.
  std::optional<Call> take(std::uint32_t id);
  /// The first call from `place` on whose deadline is at or before `now_ns`; `place` is then after
  /// it, `next` the earliest deadline of the others that were passed. For taking one after the
  /// other, from place 0: what ends calls needs no memory.
  std::optional<Call> take_late(std::uint64_t now_ns, std::uint32_t& place, Deadline& next);
  /// The first call from `place` on, whatever its deadline.
  std::optional<Call> take_next(std::uint32_t& place);

 private:
  Call* find(std::uint32_t id);
  void free_place(Call& call);
  void free_id(std::uint32_t id);

  std::vector<Call> places_;
  std::vector<std::uint32_t> free_;  ///< ids to give to the next calls
  std::uint32_t size_ = 0;
};

}  // namespace aios
