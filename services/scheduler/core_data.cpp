// Where the data of tasks lies, and what it takes to bring it to a device.
#include "abi/include/aios/codelet.h"
#include "services/scheduler/core.hpp"
#include "services/scheduler/record_check.hpp"

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
  Transfer sum;
  if (memories_.is_one()) return sum;
  const MemoryId memory = memories_.of(device);
  const std::vector<Buffer>& buffers = task.tenant->job->buffers;
  for (std::uint32_t i = 0; i < task.record.buffer_count; ++i) {
    const std::uint32_t word = task.record.buffers[i];
    const Buffer& buffer = buffers[buffer_id(word)];
    if (!reads(buffer_mode(word)) || (buffer.copies & only_in(memory)) != 0) continue;
    sum.bytes += buffer.bytes;
    sum.ns += memories_.transfer_ns(buffer.copies, memory, buffer.bytes);
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
      buffer.copies = here;
    else if (reads(buffer_mode(word)))
      buffer.copies |= here;
  }
}

std::uint64_t Core::mean_transfer_ns(const Task& from, const Task& to) const {
  if (memories_.is_one()) return 0;
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
  return static_cast<std::uint64_t>(sum * apart_);
}

}  // namespace aios::scheduler
