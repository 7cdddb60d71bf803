// The file that holds the blocks of large objects, locked for one process.
#pragma once

#include <cstdint>
#include <string>

#include "abi/runtime/fd.hpp"
#include "services/storage/disk_io.hpp"

namespace aios::storage {

struct DataFile {
  Fd fd;
  std::uint64_t size_bytes;

  /// Opens `folder`/data-0000, making folder (mode 0700) and file durably where they are missing.
  /// The lock lasts until the process ends. busy when another process has it; denied; no_space;
  /// io_error. Blocks on the disk.
  static Result<DataFile> open(const std::string& folder);

  Result<DiskIo::Space> space() const;
};

/// What DiskIo::grow does, blocking on the disk: 0 or a negative errno.
std::int64_t preallocate(int fd, std::uint64_t old_size, std::uint64_t new_size);

}  // namespace aios::storage
