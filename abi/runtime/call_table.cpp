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

std::vector<CallTable::Call> CallTable::take_late(std::uint64_t now_ns, Deadline& next) {
  std::vector<Call> late;
  for (Call& place : places_) {
    if (!place.callback) continue;
    if (place.deadline.at_ns > now_ns) {
      next.at_ns = std::min(next.at_ns, place.deadline.at_ns);
    } else {
      late.push_back(std::move(place));
      free_place(place);
    }
  }
  return late;
}

std::vector<CallTable::Call> CallTable::take_all() {
  std::vector<Call> all;
  for (Call& place : places_) {
    if (!place.callback) continue;
    all.push_back(std::move(place));
    free_place(place);
  }
  return all;
}

}  // namespace aios
