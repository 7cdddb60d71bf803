#include "drivers/device/backend.hpp"

namespace aios::device {

Result<std::uint32_t> count_blocks(const std::uint32_t (&grid)[3]) {
  std::uint64_t blocks = 1;
  for (const std::uint32_t side : grid) {
    if (side == 0 || side > max_grid_blocks / blocks)
      return error(Code::invalid_argument,
                   "a grid has sides of at least 1 and at most 16777216 blocks in all");
    blocks *= side;
  }
  return static_cast<std::uint32_t>(blocks);
}

Result<void> check_counts(const proto::context::Run::Request& request) {
  if (request.buffer_count > proto::context::max_task_buffers)
    return error(Code::invalid_argument, "a task has at most 16 buffers");
  if (request.argument_bytes > proto::context::max_argument_bytes)
    return error(Code::invalid_argument, "a task has at most 64 bytes of arguments");
  return {};
}

}  // namespace aios::device
