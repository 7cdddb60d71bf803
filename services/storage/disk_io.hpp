// The seam between storage and the disk: one data file, written and read asynchronously.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "abi/runtime/status.hpp"

namespace aios::storage {

/// Nothing blocks but `space_bytes` (a statfs) and what says so. Requests may finish in any order;
/// each `Done` runs once, inside `poll`, on the thread that submitted. At most `max_in_flight`
/// requests are under way at a time: a precondition.
class DiskIo {
 public:
  static constexpr std::size_t max_in_flight = 64;

  /// The number of bytes moved, which may be short, or a negative errno.
  using Done = std::function<void(std::int64_t result)>;

  virtual ~DiskIo() = default;

  /// The buffers stay valid and unchanged until `done` runs.
  virtual void write(std::uint64_t offset, std::span<const std::byte> bytes, Done done) = 0;
  virtual void read(std::uint64_t offset, std::span<std::byte> bytes, Done done) = 0;
  /// Every write that finished before is on stable storage when this ends with 0. After an error
  /// any of them may be lost, and a later flush would not say so.
  virtual void flush(Done done) = 0;
  /// Preallocates [old_size, new_size); -ENOSPC when the file system has no room. Where it cannot
  /// preallocate the file is only made longer, and a write may end with -ENOSPC.
  virtual void grow(std::uint64_t old_size, std::uint64_t new_size, Done done) = 0;

  /// Starts what was asked for since the last call. False: the host had no memory for all of it;
  /// call again soon.
  virtual bool submit() = 0;
  /// Runs the Dones of finished requests and says how many there were.
  virtual std::size_t poll() = 0;
  /// Readable when `poll` has something to do.
  virtual int poll_fd() const = 0;

  struct Space {
    std::uint64_t free_bytes;
    std::uint64_t total_bytes;
  };
  /// Of the file system.
  virtual Result<Space> space() = 0;
  /// Bytes of the data file when it was opened.
  virtual std::uint64_t size_bytes() const = 0;
  /// "io_uring" or "threads".
  virtual std::string_view backend() const = 0;
};

}  // namespace aios::storage
