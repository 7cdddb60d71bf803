// What the disk does for somebody who is not AIOS. On a machine where others write as well a flush
// may take seconds, and then no storage can answer in less.
#pragma once

#include <atomic>
#include <thread>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"
#include "tests/fault/disturbances.hpp"

namespace aios::fault {

/// Overwrites a block of a file and flushes it, twenty times a second. While such a flush is under
/// way, storage and who needs it count as held up: that excuses calls that run out of time while
/// the disk was busy for most of it, and nothing else.
class DiskProbe {
 public:
  /// The file lies in `folder`, which is on the disk in question.
  static Result<std::unique_ptr<DiskProbe>> start(const std::string& folder,
                                                  Disturbances& disturbances);
  ~DiskProbe();
  DiskProbe(const DiskProbe&) = delete;
  /// The longest flush that has ended.
  std::uint64_t longest_ns() const { return longest_ns_.load(); }

 private:
  DiskProbe(Fd file, Disturbances& disturbances);
  void run();

  Fd file_;
  Disturbances& disturbances_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> longest_ns_{0};
  std::thread thread_;
};

}  // namespace aios::fault
