// One thread beside the server's loop, for work that waits for the disk.
#pragma once

#include <functional>

namespace aios::storage {

/// Runs one piece of work at a time. What the work touches belongs to it from `start` until
/// `finished` returned true; both calls order memory accordingly.
class Background {
 public:
  virtual ~Background() = default;
  /// Precondition: idle.
  virtual void start(std::function<void()> work) = 0;
  /// True once after the work ended; then idle again.
  virtual bool finished() = 0;
  /// Readable when `finished` would return true.
  virtual int poll_fd() const = 0;
};

}  // namespace aios::storage
