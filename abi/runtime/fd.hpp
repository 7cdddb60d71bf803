// Ownership of the two raw resources of Linux: file descriptors and mappings.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "abi/runtime/status.hpp"

namespace aios {

/// Owns a file descriptor; closes it once.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~Fd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);
  /// A second descriptor of the same open file, close-on-exec.
  Result<Fd> duplicate() const;

 private:
  int fd_ = -1;
};

/// Owns a shared mapping; unmaps it once.
class Mapping {
 public:
  enum class Access { read, read_write };

  Mapping() = default;
  /// Maps `size_bytes` of `fd` from offset 0. Before it maps, it checks that the file is at least
  /// that long and sealed against shrinking, so that no later access can fault: a memfd without
  /// F_SEAL_SHRINK or too short is `invalid_argument`. One of 2 MiB or more lies at a multiple of
  /// that, for huge pages (host_memory.hpp).
  static Result<Mapping> map(const Fd& fd, std::size_t size_bytes, Access access);
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping() { reset(); }

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool valid() const { return data_ != nullptr; }
  std::span<std::byte> bytes() const { return {data_, size_}; }
  void reset();
  /// Moves `other`, a mapping of the same size, to this one's address, whose place it takes without
  /// a moment between.
  Result<void> replace(Mapping&& other);
  /// The pages are absent in a forked child, which would otherwise share our links.
  void exclude_from_fork() const;

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace aios
