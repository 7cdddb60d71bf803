// Where the data of tasks lies, and what it takes to bring it to a device.
#include "abi/include/aios/codelet.h"
#include "services/scheduler/core/core.hpp"
#include "services/scheduler/core/parts/limits.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {
namespace {

bool reads(std::uint32_t mode) {
  return mode == AIOS_MODE_READ || mode == AIOS_MODE_READ_WRITE;
}

bool changes(std::uint32_t mode) {
  return mode == AIOS_MODE_WRITE || mode == AIOS_MODE_READ_WRITE;
}

}  // namespace

Transfer Core::transfer_to(const Task& task, DeviceId device) const {
  return transfer_to(*task.tenant, task.record, device);
}

Transfer Core::transfer_to(const Tenant& tenant, const TaskRecord& record, DeviceId device,
                           std::uint64_t planned_in) const {
  Transfer sum;
  if (memories_.is_one()) return sum;
  const MemoryId memory = memories_.of(device);
  const bool goes_back = memories_.copies_back() && memory != host_memory;
  for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
    const std::uint32_t word = record.buffers[i];
    const Buffer& buffer = tenant.job->buffers[buffer_id(word)];
    if (goes_back && changes(buffer_mode(word))) {
      sum.bytes += buffer.bytes;
      sum.ns += memories_.transfer_ns(only_in(memory), host_memory, buffer.bytes);
    }
    if ((buffer.copies & only_in(memory)) != 0 || !reads(buffer_mode(word))) continue;
    Copies copies = buffer.copies;
    if (planned_in != 0 && buffer.planned_in == planned_in) copies |= buffer.expected;
    if ((copies & only_in(memory)) != 0) continue;
    sum.bytes += buffer.bytes;
    sum.ns += memories_.transfer_ns(copies, memory, buffer.bytes);
  }
  return sum;
}

void Core::move_data(const Task& task, DeviceId device) {
  if (memories_.is_one()) return;
  const Copies here = only_in(memories_.of(device));
  for (std::uint32_t i = 0; i < task.record.buffer_count; ++i) {
    const std::uint32_t word = task.record.buffers[i];
    Buffer& buffer = task.tenant->job->buffers[buffer_id(word)];
    if (changes(buffer_mode(word)))
      buffer.copies = memories_.copies_back() ? here | only_in(host_memory) : here;
    else if (reads(buffer_mode(word)))
      buffer.copies |= here;
  }
}

void Core::expect_data(const Task& task, DeviceId device) {
  const MemoryId memory = memories_.of(device);
  if (memories_.is_one() || memory == host_memory) return;
  for (std::uint32_t i = 0; i < task.record.buffer_count; ++i) {
    const std::uint32_t word = task.record.buffers[i];
    if (!reads(buffer_mode(word))) continue;
    Buffer& buffer = task.tenant->job->buffers[buffer_id(word)];
    if (std::exchange(buffer.planned_in, decisions_) != decisions_) buffer.expected = 0;
    buffer.expected |= only_in(memory);
  }
}

double Core::moved_ns(const Task& from, const Task& to) const {
  double sum = 0;
  for (std::uint32_t i = 0; i < to.record.buffer_count; ++i) {
    if (!reads(buffer_mode(to.record.buffers[i]))) continue;
    const std::uint32_t id = buffer_id(to.record.buffers[i]);
    for (std::uint32_t k = 0; k < from.record.buffer_count; ++k) {
      const std::uint32_t word = from.record.buffers[k];
      if (buffer_id(word) == id && changes(buffer_mode(word)))
        sum += memories_.mean().of(from.tenant->job->buffers[id].bytes);
    }
  }
  return sum;
}

double Core::brought_ns(const Task& task, DeviceId device) const {
  const MemoryId memory = memories_.of(device);
  double sum = 0;
  for (std::uint32_t i = 0; i < task.record.buffer_count; ++i) {
    const std::uint32_t word = task.record.buffers[i];
    const Buffer& buffer = task.tenant->job->buffers[buffer_id(word)];
    if (!reads(buffer_mode(word)) || (buffer.copies & only_in(memory)) != 0) continue;
    if (!is_left_by_another(task, buffer_id(word)))
      sum += memories_.transfer_ns(buffer.copies, memory, buffer.bytes);
  }
  return sum;
}

bool Core::is_left_by_another(const Task& task, std::uint32_t buffer) const {
  for (std::uint32_t e = 0; e < task.edge_count; ++e) {
    if (task.edges[e].predecessor == no_slot) continue;
    const TaskRecord& before = tasks_[task.edges[e].predecessor].record;
    for (std::uint32_t k = 0; k < before.buffer_count; ++k)
      if (buffer_id(before.buffers[k]) == buffer && changes(buffer_mode(before.buffers[k])))
        return true;
  }
  return false;
}

// ---- memories of devices, live ------------------------------------------------------------------

void Core::set_own_memory(DeviceId device) {
  if (memories_.of(device) != host_memory || memories_.count() >= max_devices) return;
  set_memory(device, memories_.count());
  memories_.copy_back();
  copy_costs_.try_emplace(device);
  update_transfers(device);
}

void Core::copied(JobId job, DeviceId device, const proto::context::Copies::Reply& more,
                  std::uint64_t within_ns) {
  const auto whose = jobs_.find(job);
  const auto costs = copy_costs_.find(device);
  if (whose == jobs_.end() || costs == copy_costs_.end()) return;
  costs->second.learn(whose->second->user->uid, more, within_ns);
  update_transfers(device);
}

const CopyCosts* Core::copy_costs(DeviceId device) const {
  const auto costs = copy_costs_.find(device);
  return costs == copy_costs_.end() ? nullptr : &costs->second;
}

std::vector<SavedCopies> Core::saved_copies() const {
  std::vector<SavedCopies> all;
  for (const auto& [device, costs] : copy_costs_)
    for (const SavedCopies& one : costs.save(device)) all.push_back(one);
  return all;
}

std::uint64_t Core::copies_learned() const {
  std::uint64_t sum = 0;
  for (const auto& [device, costs] : copy_costs_) sum += costs.samples();
  return sum;
}

void Core::restore_copies(DeviceId device, const SavedCopies& saved) {
  const auto costs = copy_costs_.find(device);
  if (costs == copy_costs_.end()) return;
  costs->second.restore(saved);
  update_transfers(device);
}

/// From one such memory to another all goes through the host's.
void Core::update_transfers(DeviceId device) {
  const MemoryId memory = memories_.of(device);
  const TransferCost in = copy_costs_.at(device).to_device();
  const TransferCost out = copy_costs_.at(device).to_host();
  memories_.set_transfer(host_memory, memory, in);
  memories_.set_transfer(memory, host_memory, out);
  const auto both = [](const TransferCost& a, const TransferCost& b) {
    return TransferCost{a.latency_ns + b.latency_ns, a.ns_per_byte + b.ns_per_byte};
  };
  for (const auto& [other, costs] : copy_costs_) {
    if (other == device) continue;
    memories_.set_transfer(memory, memories_.of(other), both(out, costs.to_device()));
    memories_.set_transfer(memories_.of(other), memory, both(costs.to_host(), in));
  }
}

/// What a context of the job had brought to the device is gone with it.
void Core::forget_copies(Job& job, DeviceId device) {
  forget_residents(job, device);
  if (!memories_.copies_back() || memories_.of(device) == host_memory) return;
  for (Buffer& buffer : job.buffers) buffer.copies &= ~only_in(memories_.of(device));
}

}  // namespace aios::scheduler
