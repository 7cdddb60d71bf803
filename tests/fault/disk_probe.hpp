// What the disk does for somebody who is not AIOS. On a machine where others write as well a flush
// may take seconds, and then no storage can answer in less.
#pragma once

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

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
  /// For how long of the last `window_ns` the disk stood still: a flush was under way that took, or
  /// has taken so far, at least `slow_ns`.
  std::uint64_t still_ns(std::uint64_t window_ns) const;
  static constexpr std::uint64_t slow_ns = 200'000'000;

 private:
  DiskProbe(Fd file, Disturbances& disturbances);
  void run();

  Fd file_;
  Disturbances& disturbances_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> longest_ns_{0};
  struct Flush {
    std::uint64_t begin_ns;
    std::uint64_t end_ns;
  };
  mutable std::mutex mutex_;
  std::vector<Flush> slow_;         ///< those that have ended
  std::uint64_t under_way_ns_ = 0;  ///< since when; 0: none
  std::thread thread_;
};

}  // namespace aios::fault
