#include "services/scheduler/core/parts/record_check.hpp"

#include <cstring>

#include "abi/include/aios/codelet.h"
#include "services/scheduler/core/parts/limits.hpp"

namespace aios::scheduler {
namespace {

/// Of each record, so not value by value.
template <class T, std::size_t N>
bool zero_from(const T (&values)[N], std::size_t first) {
  static constexpr T zero[N] = {};
  return std::memcmp(values + first, zero, (N - first) * sizeof(T)) == 0;
}

bool grid_fits(const std::uint32_t (&grid)[3]) {
  // Neither product has more than 64 bits.
  const std::uint64_t layer = std::uint64_t{grid[0]} * grid[1];
  return layer > 0 && layer <= max_grid_blocks && grid[2] > 0 && layer * grid[2] <= max_grid_blocks;
}

}  // namespace

bool mode_writes(std::uint32_t mode) {
  return mode == AIOS_MODE_WRITE || mode == AIOS_MODE_READ_WRITE || mode == AIOS_MODE_SCRATCH;
}

Result<void> check_record(const proto::scheduler::TaskRecord& record) {
  const auto wrong = [&](const char* what) {
    return error(Code::invalid_argument, "task " + std::to_string(record.tag) + ": " + what);
  };
  if (record.buffer_count > proto::context::max_task_buffers) return wrong("too many buffers");
  if (record.dependency_count > proto::scheduler::max_dependencies)
    return wrong("too many dependencies");
  if (record.argument_bytes > proto::context::max_argument_bytes)
    return wrong("its arguments are too long");
  using namespace proto::scheduler::task_flag;
  if ((record.flags & ~(idempotent | join | may_be_cheaper | gang)) != 0)
    return wrong("unknown flags");
  if (is_join(record) && (record.buffer_count != 0 || record.argument_bytes != 0))
    return wrong("a join has no buffers and no arguments");
  if (in_gang(record) && is_join(record)) return wrong("a join is in no gang");
  if (in_gang(record) && (record.gang_size < 2 || record.gang_size > proto::scheduler::max_gang))
    return wrong("a gang has 2 to 256 members");
  if (!grid_fits(record.grid)) return wrong("its grid is empty or has over 2^24 blocks");
  for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
    const std::uint32_t mode = buffer_mode(record.buffers[i]);
    if (mode < AIOS_MODE_READ || mode > AIOS_MODE_SCRATCH) return wrong("unknown buffer mode");
  }
  const bool gang_is_zero = in_gang(record) || (record.gang == 0 && record.gang_size == 0);
  if (record.reserved_word != 0 || !gang_is_zero ||
      !zero_from(record.buffers, record.buffer_count) ||
      !zero_from(record.dependencies, record.dependency_count) ||
      !zero_from(record.arguments, record.argument_bytes))
    return wrong("fields that are not used must be zero");
  return {};
}

}  // namespace aios::scheduler
