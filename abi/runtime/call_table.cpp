#include "abi/runtime/call_table.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace aios {

std::uint32_t CallTable::reserve(std::uint16_t opcode) {
  assert(!full());
  std::uint32_t id = 0;
  if (free_.empty()) {
    // So that giving a place back never allocates.
    free_.reserve(places_.size() + 1);
    id = static_cast<std::uint32_t>(places_.size()) + max_calls;
    places_.emplace_back();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  Call& place = places_[id % max_calls];
  place.id = id;
  place.opcode = opcode;
  ++size_;
  return id;
}

void CallTable::fill(std::uint32_t id, Deadline deadline, Callback callback,
                     std::vector<std::byte> request, std::uint32_t replays) {
  Call& place = places_[id % max_calls];
  assert(place.id == id && !place.callback && callback);
  place.deadline = deadline;
  place.callback = std::move(callback);
  place.request = std::move(request);
  place.replays = replays;
}

void CallTable::release(std::uint32_t id) {
  Call& place = places_[id % max_calls];
  assert(place.id == id && !place.callback);
  free_id(id);
}

CallTable::Call* CallTable::find(std::uint32_t id) {
  const std::uint32_t index = id % max_calls;
  if (index >= places_.size()) return nullptr;
  Call& place = places_[index];
  return place.callback && place.id == id ? &place : nullptr;
}

void CallTable::free_place(Call& call) {
  call.callback = nullptr;
  call.request = {};
  free_id(call.id);
}

void CallTable::free_id(std::uint32_t id) {
  // Wraps after four million uses of the place, to where it began: no id is below max_calls, and
  // so none is 0.
  const std::uint32_t next = id + max_calls;
  free_.push_back(next < max_calls ? next + max_calls : next);
  --size_;
}

std::optional<CallTable::Call> CallTable::take(std::uint32_t id) {
  Call* call = find(id);
  if (call == nullptr) return std::nullopt;
  std::optional<Call> taken(std::move(*call));
  free_place(*call);
  return taken;
}

std::optional<CallTable::Call> CallTable::take_late(std::uint64_t now_ns, std::uint32_t& place,
                                                    Deadline& next) {
  while (place < places_.size()) {
    Call& call = places_[place++];
    if (!call.callback) continue;
    if (call.deadline.at_ns <= now_ns) return take(call.id);
    next.at_ns = std::min(next.at_ns, call.deadline.at_ns);
  }
  return std::nullopt;
}

std::optional<CallTable::Call> CallTable::take_next(std::uint32_t& place) {
  Deadline none = Deadline::never();
  return take_late(Deadline::never().at_ns, place, none);
}

}  // namespace aios
