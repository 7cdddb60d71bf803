#include "abi/runtime/call_table.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace aios {

std::uint32_t CallTable::add(std::uint16_t opcode, Deadline deadline, Callback callback) {
  assert(!full() && callback);
  std::uint32_t id = 0;
  if (free_.empty()) {
    id = static_cast<std::uint32_t>(places_.size()) + max_calls;
    places_.emplace_back();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  Call& place = places_[id % max_calls];
  place.id = id;
  place.opcode = opcode;
  place.deadline = deadline;
  place.callback = std::move(callback);
  ++size_;
  return id;
}

CallTable::Call* CallTable::find(std::uint32_t id) {
  const std::uint32_t index = id % max_calls;
  if (index >= places_.size()) return nullptr;
  Call& place = places_[index];
  return place.callback && place.id == id ? &place : nullptr;
}

void CallTable::set_deadline(std::uint32_t id, Deadline deadline) {
  if (Call* call = find(id)) call->deadline = deadline;
}

void CallTable::set_replay(std::uint32_t id, std::span<const std::byte> request,
                           std::uint32_t replays) {
  Call* call = find(id);
  assert(call != nullptr);
  call->request.assign(request.begin(), request.end());
  call->replays = replays;
}

void CallTable::free_place(Call& call) {
  call.callback = nullptr;
  call.request = {};
  // Wraps after four million uses of the place, to where it began: no id is below max_calls, and
  // so none is 0.
  const std::uint32_t next = call.id + max_calls;
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
