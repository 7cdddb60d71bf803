#include "abi/runtime/fd.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "abi/runtime/host_memory.hpp"

namespace aios {

namespace {

constexpr int of_pages(Mapping::Access access) {
  return access == Mapping::Access::read ? PROT_READ : PROT_READ | PROT_WRITE;
}

/// Large files at a multiple of the size of huge pages: only there does Linux enter such, where the
/// file has them, whole. Room for the worst case is taken, and what is too much given back.
void* map_file(const Fd& fd, std::size_t size_bytes, int protection) {
  if (size_bytes < huge_page_bytes)
    return ::mmap(nullptr, size_bytes, protection, MAP_SHARED, fd.get(), 0);
  constexpr std::size_t page_bytes = 4096;
  const std::size_t whole_bytes = (size_bytes + page_bytes - 1) / page_bytes * page_bytes;
  const std::size_t room_bytes = whole_bytes + huge_page_bytes;
  constexpr int nothing = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* room = ::mmap(nullptr, room_bytes, PROT_NONE, nothing, -1, 0);
  if (room == MAP_FAILED) return room;
  const std::size_t before =
      huge_page_bytes - reinterpret_cast<std::uintptr_t>(room) % huge_page_bytes;
  std::byte* place = static_cast<std::byte*>(room) + before;
  void* mapped = ::mmap(place, size_bytes, protection, MAP_SHARED | MAP_FIXED, fd.get(), 0);
  if (mapped == MAP_FAILED) {
    const int why = errno;
    ::munmap(room, room_bytes);
    errno = why;
    return mapped;
  }
  ::munmap(room, before);
  if (before < huge_page_bytes) ::munmap(place + whole_bytes, huge_page_bytes - before);
  return mapped;
}

}  // namespace

void Fd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Result<Fd> Fd::duplicate() const {
  const int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return errno_error("duplicate descriptor", errno);
  return Fd(copy);
}

Result<Mapping> Mapping::map(const Fd& fd, std::size_t size_bytes, Access access) {
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return errno_error("inspect region", errno);
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
    return error(Code::invalid_argument, "region is not sealed against shrinking");
  if (size_bytes == 0 || static_cast<std::size_t>(info.st_size) < size_bytes)
    return error(Code::invalid_argument, "region is shorter than announced");
  void* address = map_file(fd, size_bytes, of_pages(access));
  if (address == MAP_FAILED) return errno_error("map region", errno);
  Mapping mapping;
  mapping.data_ = static_cast<std::byte*>(address);
  mapping.size_ = size_bytes;
  return mapping;
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    reset();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void Mapping::reset() {
  if (data_ != nullptr) ::munmap(data_, size_);
  data_ = nullptr;
  size_ = 0;
}

Result<void> Mapping::replace(Mapping&& other) {
  if (!valid() || other.size_ != size_)
    return error(Code::invalid_argument, "only a mapping of the same size can be put in its place");
  if (::mremap(other.data_, size_, size_, MREMAP_MAYMOVE | MREMAP_FIXED, data_) == MAP_FAILED)
    return errno_error("replace mapping", errno);
  other.data_ = nullptr;
  return {};
}

void Mapping::exclude_from_fork() const {
  if (data_ != nullptr) ::madvise(data_, size_, MADV_DONTFORK);
}

}  // namespace aios
