// What is asked of every device for each task that is looked at, often a hundred times in a
// decision: small, and inline for that.
#pragma once

#include "services/scheduler/core/core.hpp"
#include "services/scheduler/core/parts/share_out.hpp"

namespace aios::scheduler {

inline bool Core::has_code_for(const Tenant& tenant, const TaskRecord& record,
                               DeviceId device) const {
  return (tenant.codelets[record.codelet].backends & devices_[device].backend) != 0;
}

inline bool Core::data_fits(const Tenant& tenant, const TaskRecord& record, DeviceId device) const {
  const std::uint64_t room = devices_[device].memory_bytes;
  return !holds_copies(device) || tenant.job->buffer_bytes <= room ||
         data_bytes(*tenant.job, record) <= room;
}

inline bool Core::suits(const Tenant& tenant, const TaskRecord& record, DeviceId device) const {
  return (record.device == 0 || record.device == device + 1) &&
         has_code_for(tenant, record, device) && data_fits(tenant, record, device);
}

/// Threads that it keeps busy there.
inline std::uint32_t Core::width_on(const TaskRecord& record, DeviceId device) const {
  return width_of(std::uint64_t{record.grid[0]} * record.grid[1] * record.grid[2],
                  devices_[device].slots);
}

inline bool Core::is_loaded(const Tenant& tenant, const Task& task, DeviceId device) const {
  return (tenant.codelets[task.record.codelet].loaded_on >> device & 1) != 0;
}

inline bool Core::has_room(const Tenant& tenant, DeviceId device) const {
  const DeviceState& state = devices_[device];
  const Context& context = tenant.job->contexts[device];
  if (!state.usable || context.state != ContextState::ready) return false;
  return (state.room() > 0 && !has_enough(context, device)) || tenant.job->user->running == 0;
}

/// Of tasks as wide as the device two: one more than runs, so that no thread waits. Where all wait
/// for one another they had better be free to go elsewhere.
inline bool Core::has_enough(const Context& context, DeviceId device) const {
  return context.wider > 0 && context.running + context.wider + 1 >= 2 * devices_[device].slots;
}

inline bool Core::is_brief(const Tenant& tenant, const Task& task, DeviceId device) const {
  using namespace proto::scheduler::task_flag;
  return (task.record.flags & (idempotent | gang)) == idempotent && !task.suspect &&
         task.record.limit_ns == 0 && tenant.codelets[task.record.codelet].brevity.is_brief(device);
}

inline bool Core::has_room_ahead(DeviceId device) const {
  const DeviceState& state = devices_[device];
  return state.ahead < max_ahead && state.ahead_ns < state.slots * max_ahead_ns_per_slot;
}

inline bool Core::can_open(const Tenant& tenant, DeviceId device) const {
  const Context& context = tenant.job->contexts[device];
  return devices_[device].usable && context.state == ContextState::none && !context.refused;
}

inline Transfer Core::planned_transfer_to(const Task& task, DeviceId device) const {
  if (memories_.is_one()) return {};
  return transfer_to(*task.tenant, task.record, device, decisions_);
}

}  // namespace aios::scheduler
