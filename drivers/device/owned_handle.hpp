// A kernel handle with one owner, for the time in which a driver may still fail.
#pragma once

#include <utility>

#include "abi/runtime/kernel.hpp"

namespace aios::device {

/// Closes the handle when destroyed, unless it was released.
class OwnedHandle {
 public:
  OwnedHandle(Kernel& kernel, Handle handle) : kernel_(&kernel), handle_(handle) {}
  OwnedHandle(OwnedHandle&& other) noexcept
      : kernel_(other.kernel_), handle_(std::exchange(other.handle_, 0)) {}
  OwnedHandle& operator=(OwnedHandle&&) = delete;
  ~OwnedHandle() {
    if (handle_ != 0) kernel_->close(handle_);
  }

  Handle get() const { return handle_; }
  [[nodiscard]] Handle release() { return std::exchange(handle_, 0); }

 private:
  Kernel* kernel_;
  Handle handle_;
};

}  // namespace aios::device
