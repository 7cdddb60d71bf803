// The memory that the members of a gang need on devices that have their own. They start together or
// not at all, so that all of them must have room at once: on each device, for all that go there. A
// gang for which only room is missing waits as a task does (core_memory.cpp).
#include <algorithm>
#include <functional>

#include "services/scheduler/core/core.hpp"
#include "services/scheduler/core/parts/gang_fit.hpp"
#include "services/scheduler/core/parts/limits.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {

/// How many of the members the device takes at once, whichever they are: each has a slot, and the
/// data of all is in its memory. Where not all data of the job has room as many as the largest
/// ones, of which what they share counts for each.
std::uint32_t Core::gang_slots(const Job& job, Members members, DeviceId device) const {
  const DeviceState& state = devices_[device];
  if (state.slots <= 1 || !holds_copies(device) || job.buffer_bytes <= state.memory_bytes)
    return state.slots;
  std::vector<std::uint64_t> sizes;
  for (const TaskRecord* member : members) {
    const std::uint64_t bytes = data_bytes(job, *member);
    const bool goes_there = member->device == 0 || member->device == device + 1;
    if (goes_there && bytes <= state.memory_bytes) sizes.push_back(bytes);
  }
  std::ranges::sort(sizes, std::greater());
  std::uint64_t sum = 0;
  std::uint32_t count = 0;
  while (count < sizes.size() && sum + sizes[count] <= state.memory_bytes) sum += sizes[count++];
  return count == sizes.size() ? state.slots : std::min(count, state.slots);
}

std::uint32_t Core::gang_slots(const Gang& gang, DeviceId device) const {
  if (devices_[device].slots <= 1 || !holds_copies(device)) return devices_[device].slots;
  return gang_slots(*tasks_[gang.members.front().slot].tenant->job, records_of(gang), device);
}

/// Those that go to each device with a memory of its own, and what they need there.
std::vector<Core::Together> Core::together(const Gang& gang, const std::vector<DeviceId>& where) {
  std::vector<Together> groups;
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (!holds_copies(d)) continue;
    Together group{d, {}, {}};
    const Copies here = only_in(memories_.of(d));
    ++last_mark_;
    for (std::size_t i = 0; i < where.size(); ++i) {
      if (where[i] != d) continue;
      const Task& task = tasks_[gang.members[i].slot];
      group.tasks.push_back(&task);
      group.need.scratch += memory_need(task, d).scratch;
      for (std::uint32_t k = 0; k < task.record.buffer_count; ++k) {
        Buffer& buffer = task.tenant->job->buffers[buffer_id(task.record.buffers[k])];
        if (std::exchange(buffer.mark, last_mark_) == last_mark_) continue;
        group.need.data += buffer.bytes;
        if ((buffer.resident & here) == 0) group.need.fresh += buffer.bytes;
      }
    }
    if (!group.tasks.empty()) groups.push_back(std::move(group));
  }
  return groups;
}

/// Where all of it can start now. Where only copies have to leave first that nobody uses, it waits
/// for these; otherwise it goes where there is room at once, if there are such devices.
std::optional<std::vector<DeviceId>> Core::places_for(const Gang& gang, TaskRef leader) {
  const auto choices = choices_of(gang);
  std::vector<std::uint32_t> room = room_for(gang, leader);
  tasks_[leader.slot].awaited_memory = 0;
  const auto own = std::ranges::find(reservations_, leader, &Reservation::leader);
  if (own != reservations_.end()) own->held = false;
  std::vector<Together> preferred;
  while (const auto where = fit_gang(choices, room)) {
    std::vector<Together> groups = together(gang, *where);
    const auto full = std::ranges::find_if(groups, [&](const Together& one) {
      return memory_room(one.tasks, one.device, one.need) != MemoryRoom::now;
    });
    if (full == groups.end()) return where;
    const bool soon =
        memory_room(full->tasks, full->device, full->need) == MemoryRoom::after_copies;
    room[full->device] = 0;
    if (preferred.empty()) preferred = std::move(groups);
    if (soon) break;
  }
  if (!preferred.empty()) await_memory_for(leader, preferred);
  return std::nullopt;
}

/// While nobody knows when it has its memory no slots are kept for it: a context keeps that which
/// does not go on, and then nothing at all is kept; or tasks do, longer than it is waited for.
void Core::await_memory_for(TaskRef leader, std::span<const Together> groups) {
  Task& first = tasks_[leader.slot];
  const auto own = std::ranges::find(reservations_, leader, &Reservation::leader);
  const bool is_late =
      own != reservations_.end() && own->from_ns != 0 && now_ns_ >= own->from_ns + gang_patience_ns;
  bool is_held = false;
  for (const Together& one : groups) {
    const MemoryRoom room = memory_room(one.tasks, one.device, one.need);
    if (room != MemoryRoom::now && !is_held) first.awaited_memory = one.device + 1;
    is_held = is_held || room == MemoryRoom::held;
    if (own != reservations_.end() && (is_held || (is_late && room == MemoryRoom::after_tasks)))
      own->held = true;
  }
  if (is_held) return;
  for (const Together& one : groups) await_memory(one.tasks, one.device, one.need);
}

}  // namespace aios::scheduler
