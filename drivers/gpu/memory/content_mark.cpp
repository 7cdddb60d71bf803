#include "drivers/gpu/memory/content_mark.hpp"

namespace aios::gpu {

std::uint32_t ContentMark::content() const {
  return word_.load(std::memory_order_acquire);
}

void ContentMark::write(std::uint32_t content) {
  if (!closed_) word_.store(content, std::memory_order_release);
}

std::uint64_t ContentMark::begin_change() {
  const std::lock_guard lock(mutex_);
  write(0);
  return ++changes_;
}

void ContentMark::end_change(std::uint64_t change, std::uint32_t content) {
  const std::lock_guard lock(mutex_);
  if (change == changes_) write(content);
}

void ContentMark::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

}  // namespace aios::gpu
