// The file that holds the blocks of large objects, locked for one process.
#pragma once

#include <cstdint>
#include <string>

#include "abi/runtime/fd.hpp"
#include "services/storage/disk_io.hpp"

namespace aios::storage {

struct DataFile {
  Fd fd;
  /// A file of its own: io_uring may hold on to the data file for a moment after its process died.
  Fd lock;
  std::uint64_t size_bytes = 0;

  /// Locks `folder` for this process and opens data-0000 in it, making what is missing durably
  /// (mode 0700). busy when another process has the lock; not_found when the folder's parent is
  /// missing; denied; no_space; io_error. Blocks on the disk.
  static Result<DataFile> open(const std::string& folder);

  Result<DiskIo::Space> space() const;
};

/// What DiskIo::grow does, blocking on the disk: 0 or a negative errno.
std::int64_t preallocate(int fd, std::uint64_t old_size, std::uint64_t new_size);

}  // namespace aios::storage
