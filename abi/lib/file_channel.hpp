// Files lent to the contexts of a job: they read them with pread, and can do nothing else with
// them.
#pragma once

#include <cstdint>
#include <span>

#include "abi/runtime/kernel.hpp"
#include "abi/runtime/status.hpp"

namespace aios {

/// A part of an open file. The descriptor stays the caller's.
struct LentPiece {
  int fd;
  std::uint64_t offset;
  std::uint64_t length;
  std::uint64_t file_size;  ///< what the codelet may rely on
};

/// A channel (an object of type file) that holds 1 to proto::kernel::max_lent_files pieces; the
/// handle is the caller's. quota: too many files are lent at once; invalid_argument: a number of
/// pieces outside that.
Result<Handle> lend_files(Kernel& kernel, std::span<const LentPiece> pieces);

}  // namespace aios
