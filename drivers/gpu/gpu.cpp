#include "drivers/gpu/gpu.hpp"

#include <algorithm>

namespace aios::gpu {

Result<void> MemoryBudget::take(std::uint64_t bytes) {
  if (used_bytes_ > limit_bytes_ || bytes > limit_bytes_ - used_bytes_)
    return error(Code::no_memory,
                 "the tenant may have no more of the device's memory: " + std::to_string(bytes) +
                     " bytes asked for, " + std::to_string(used_bytes_) + " of " +
                     std::to_string(limit_bytes_) + " used");
  used_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return {};
}

}  // namespace aios::gpu
