// The fuzzer's input, read from the front: whatever is asked for beyond its end is zero, so that a
// prefix of an input means the same as the whole with defaults behind it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace aios::fuzz {

class Bytes {
 public:
  explicit Bytes(std::span<const std::uint8_t> bytes) : left_(bytes) {}

  bool empty() const { return left_.empty(); }
  /// An integer or a wire struct.
  template <class T>
  T take() {
    T value{};
    fill(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  std::uint8_t byte() { return take<std::uint8_t>(); }
  /// Below `limit`, which is not 0.
  std::size_t below(std::size_t limit) {
    return (limit <= 256 ? byte() : take<std::uint16_t>()) % limit;
  }
  void fill(std::span<std::byte> to) {
    const std::size_t n = std::min(to.size(), left_.size());
    if (n != 0) std::memcpy(to.data(), left_.data(), n);
    std::fill(to.begin() + static_cast<std::ptrdiff_t>(n), to.end(), std::byte{0});
    left_ = left_.subspan(n);
  }

 private:
  std::span<const std::uint8_t> left_;
};

}  // namespace aios::fuzz
