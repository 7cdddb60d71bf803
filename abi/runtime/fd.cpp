#include "abi/runtime/fd.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace aios {

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
  const int protection = access == Access::read ? PROT_READ : PROT_READ | PROT_WRITE;
  void* address = ::mmap(nullptr, size_bytes, protection, MAP_SHARED, fd.get(), 0);
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
