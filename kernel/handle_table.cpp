#include "kernel/handle_table.hpp"

#include <cassert>
#include <limits>

#include "kernel/job.hpp"
#include "kernel/limits.hpp"

namespace aios::kernel {

void Object::raise(std::uint32_t signals) {
  for (Slot* slot : holders_) slot->table->raise(*slot, signals);
}

void HandleTable::raise(Slot& slot, std::uint32_t signals) {
  std::uint32_t allowed = signal::established | signal::closed;
  if (slot.reference.use & rights::wait)
    allowed |= signal::exited | signal::empty | signal::shutdown;
  if (slot.reference.use & rights::accept) allowed |= signal::connect_pending;
  if ((signals &= allowed) == 0) return;
  slot.signals |= signals;
  if (!std::exchange(slot.queued, true)) raised_.push_back(slot.index);
  on_raise_();
}

Result<void> HandleTable::can_install(std::uint32_t count, std::uint64_t tenant) const {
  if (count > limits::handles_per_process - used_)
    return error(Code::quota, "the process's handle table is full");
  const auto sent = by_tenant_.find(tenant);
  if (sent != by_tenant_.end() && count > limits::handles_from_one_tenant - sent->second)
    return error(Code::quota, "the receiver holds too many handles from this tenant");
  return job_->can_charge(Job::handles, count);
}

Result<Handle> HandleTable::install(Reference reference, std::uint64_t tenant, std::uint64_t sender,
                                    std::uint64_t link) {
  assert(reference && job_);
  TRY(can_install(1, tenant));
  TRY(job_->charge(Job::handles, 1));
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(slots_.size()));
    slots_.emplace_back(Slot{.table = this, .index = free_.back()});
  }
  Slot& slot = slots_[free_.back()];
  free_.pop_back();
  Object& object = *reference.object();
  slot.reference = std::move(reference);
  slot.tenant = tenant;
  slot.sender = sender;
  slot.link = link;
  if (tenant != 0) ++by_tenant_[tenant];
  object.holders_.insert(&slot);
  ++used_;
  raise(slot, object.standing_signals());
  return slot.handle();
}

Result<Slot*> HandleTable::find(Handle handle) {
  const auto index = static_cast<std::uint32_t>(handle);
  if (index >= slots_.size() || !slots_[index].reference || slots_[index].handle() != handle)
    return error(Code::bad_handle, "no such handle, or one that was closed");
  slots_[index].link = 0;
  return &slots_[index];
}

Result<Slot*> HandleTable::find(Handle handle, ObjectType type, std::uint32_t needed) {
  Slot* slot = TRY(find(handle));
  if (slot->reference.object()->type() != type)
    return error(Code::wrong_type, "the handle names an object of another type");
  if ((slot->reference.use & needed) != needed)
    return error(Code::denied, "the handle lacks a right that this call needs");
  return slot;
}

void HandleTable::release(Slot& slot) {
  slot.reference.object()->holders_.erase(&slot);
  slot.signals = 0;
  if (const auto sent = by_tenant_.find(slot.tenant);
      sent != by_tenant_.end() && --sent->second == 0)
    by_tenant_.erase(sent);
  // A slot whose generations are used up is never used again.
  if (slot.generation++ != std::numeric_limits<std::uint32_t>::max()) free_.push_back(slot.index);
  --used_;
  job_->release(Job::handles, 1);
  // Last, since it may end the object, and that may raise signals in this very table.
  const Reference dropped = std::move(slot.reference);
}

proto::kernel::SignalNext::Reply HandleTable::next_signal() {
  while (!raised_.empty()) {
    Slot& slot = slots_[raised_.front()];
    raised_.pop_front();
    slot.queued = false;
    if (slot.signals == 0) continue;
    const auto type = static_cast<std::uint32_t>(slot.reference.object()->type());
    return {slot.handle(), std::exchange(slot.signals, 0), type};
  }
  return {};
}

}  // namespace aios::kernel
