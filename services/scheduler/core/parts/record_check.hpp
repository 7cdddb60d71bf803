// Whether a task record, already copied out of the client's arena, makes sense by itself. What it
// refers to (codelet, buffers, dependencies) is the core's to check.
#pragma once

#include "abi/proto/scheduler.hpp"
#include "abi/runtime/status.hpp"

namespace aios::scheduler {

inline constexpr std::uint32_t buffer_id_mask = (1u << 28) - 1;
inline std::uint32_t buffer_id(std::uint32_t word) {
  return word & buffer_id_mask;
}
inline std::uint32_t buffer_mode(std::uint32_t word) {
  return word >> 28;
}
/// WRITE or READ_WRITE: the buffer must have been registered writable.
bool mode_writes(std::uint32_t mode);

inline bool is_join(const proto::scheduler::TaskRecord& record) {
  return (record.flags & proto::scheduler::task_flag::join) != 0;
}

inline bool in_gang(const proto::scheduler::TaskRecord& record) {
  return (record.flags & proto::scheduler::task_flag::gang) != 0;
}
inline bool permits_cheaper(const proto::scheduler::TaskRecord& record) {
  return (record.flags & proto::scheduler::task_flag::may_be_cheaper) != 0;
}

/// invalid_argument, with a text that names the field.
Result<void> check_record(const proto::scheduler::TaskRecord& record);

}  // namespace aios::scheduler
