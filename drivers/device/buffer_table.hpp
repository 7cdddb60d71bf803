// What the tasks of a context may use: memory of regions, and lent files, each known by a number.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "abi/include/aios/codelet.h"
#include "abi/proto/device.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"

namespace aios::device {

/// Lent files: piece i is a part of the file behind fds[i].
struct FileSplit {
  std::vector<Fd> fds;
  std::vector<aios_file_piece> pieces;
};

/// What is known of where a buffer's memory comes from.
struct MemoryOrigin {
  std::uint64_t region = 0;  ///< the kernel's number of it, never another's; 0: not known
  bool constant = false;     ///< frozen: nobody can ever change it
  std::uint64_t binder = 0;  ///< process that numbers its contents
  std::uint64_t serial = 0;  ///< proto::context::Bind; 0: the buffer means nothing to a successor
};

/// Memory of a region, mapped whole: `read` always, `write` only when it may be written.
struct BufferMemory {
  Mapping read;
  Mapping write;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  MemoryOrigin origin = {};
  /// The bytes that are bound. Not to be written where `write` is not valid.
  std::span<std::byte> bytes() const {
    const Mapping& mapping = write.valid() ? write : read;
    return {mapping.data() + offset, length};
  }
};

/// Owns what is bound: mappings or descriptors, released with the last task that uses them.
class Buffer {
 public:
  /// Bytes (offset, length) of a region, mapped whole: `read` always, `write` only for a writable
  /// buffer, both of the same size. invalid_argument: the bytes lie outside the region.
  static Result<Buffer> memory(Mapping read, Mapping write, std::uint64_t offset,
                               std::uint64_t length, MemoryOrigin origin = {});
  static Buffer files(FileSplit split);

  /// What a task sees in `mode`: with AIOS_MODE_READ the read-only mapping.
  /// invalid_argument: no such mode. denied: it writes to what was bound read-only, or to files.
  /// The result points into this object.
  Result<aios_buffer> view(std::uint32_t mode) const;

  /// Null for files. Whoever shares it keeps it mapped also when the buffer is forgotten.
  const std::shared_ptr<const BufferMemory>& shared_memory() const { return memory_; }

 private:
  Buffer() = default;
  std::shared_ptr<const BufferMemory> memory_;
  FileSplit split_;
};

/// Not thread-safe: tasks get their buffers before they start and return them when they are done.
class BufferTable {
 public:
  /// `release` is called when the buffer is forgotten and no task uses it any more.
  /// invalid_argument: `id` is too large. Replaces what was bound before.
  Result<> bind(std::uint32_t id, Buffer buffer, std::function<void()> release);
  /// not_found: nothing is bound there. busy: a task uses it.
  Result<> unbind(std::uint64_t id);
  /// invalid_argument: nothing is bound there. The buffer is in use until the pointer is gone.
  Result<std::shared_ptr<const Buffer>> use(std::uint32_t id) const;

 private:
  std::unordered_map<std::uint32_t, std::shared_ptr<const Buffer>> buffers_;
};

}  // namespace aios::device
