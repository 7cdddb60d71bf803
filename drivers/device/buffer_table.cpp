#include "drivers/device/buffer_table.hpp"

#include <cassert>

namespace aios::device {

Result<Buffer> Buffer::memory(Mapping read, Mapping write, std::uint64_t offset,
                              std::uint64_t length, MemoryOrigin origin) {
  assert(read.valid() && (!write.valid() || write.size() == read.size()));
  if (length == 0 || length > read.size() || offset > read.size() - length)
    return error(Code::invalid_argument, "a buffer of " + std::to_string(length) + " bytes at " +
                                             std::to_string(offset) +
                                             " does not lie within its region of " +
                                             std::to_string(read.size()) + " bytes");
  Buffer buffer;
  buffer.memory_ = std::make_shared<const BufferMemory>(
      BufferMemory{std::move(read), std::move(write), offset, length, origin});
  return buffer;
}

Buffer Buffer::files(FileSplit split) {
  assert(split.fds.size() == split.pieces.size() && !split.fds.empty());
  Buffer buffer;
  buffer.split_ = std::move(split);
  return buffer;
}

Result<aios_buffer> Buffer::view(std::uint32_t mode) const {
  if (mode < AIOS_MODE_READ || mode > AIOS_MODE_SCRATCH)
    return error(Code::invalid_argument, "there is no buffer mode " + std::to_string(mode));
  const bool writes = mode != AIOS_MODE_READ;
  if (!split_.fds.empty()) {
    if (writes) return error(Code::denied, "lent files can only be read");
    return aios_buffer{.data = nullptr,
                       .size = 0,
                       .mode = mode,
                       .file_count = static_cast<std::uint32_t>(split_.pieces.size()),
                       .files = split_.pieces.data()};
  }
  if (writes && !memory_->write.valid())
    return error(Code::denied, "the task writes to a buffer that was bound read-only");
  const Mapping& mapping = writes ? memory_->write : memory_->read;
  return aios_buffer{.data = mapping.data() + memory_->offset,
                     .size = memory_->length,
                     .mode = mode,
                     .file_count = 0,
                     .files = nullptr};
}

Result<> BufferTable::bind(std::uint32_t id, Buffer buffer, std::function<void()> release) {
  assert(release);
  if (id >= proto::context::max_bound_buffers)
    return error(Code::invalid_argument, "buffer " + std::to_string(id) + " is out of range");
  buffers_[id] = std::shared_ptr<const Buffer>(new Buffer(std::move(buffer)),
                                               [release = std::move(release)](const Buffer* gone) {
                                                 delete gone;
                                                 release();
                                               });
  return {};
}

Result<> BufferTable::unbind(std::uint64_t id) {
  const auto it = id < proto::context::max_bound_buffers
                      ? buffers_.find(static_cast<std::uint32_t>(id))
                      : buffers_.end();
  if (it == buffers_.end())
    return error(Code::not_found, "no buffer " + std::to_string(id) + " is bound");
  if (it->second.use_count() > 1)
    return error(Code::busy, "buffer " + std::to_string(id) + " is used by a task");
  buffers_.erase(it);
  return {};
}

Result<std::shared_ptr<const Buffer>> BufferTable::use(std::uint32_t id) const {
  const auto it = buffers_.find(id);
  if (it == buffers_.end())
    return error(Code::invalid_argument,
                 "the task names buffer " + std::to_string(id) + ", which is not bound");
  return it->second;
}

}  // namespace aios::device
