// Values as bytes that are kept or handed on: written one after the other, and read with every
// length checked. What a value means, and whether it makes sense, is for whoever reads it.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "abi/proto/wire.hpp"
#include "abi/runtime/status.hpp"

namespace aios::scheduler {

/// A device's identity, in records.
using DeviceText = proto::Text<128>;

class Writer {
 public:
  template <class T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* first = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), first, first + sizeof value);
  }
  template <class T>
  void put_all(const std::vector<T>& values) {
    for (const T& value : values) put(value);
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : left_(bytes) {}

  /// corrupt: it ends too early.
  template <class T>
  Result<T> get() {
    static_assert(std::is_trivially_copyable_v<T>);
    if (left_.size() < sizeof(T)) return error(Code::corrupt, "the record ends too early");
    T value;
    std::memcpy(&value, left_.data(), sizeof value);
    left_ = left_.subspan(sizeof value);
    return value;
  }
  template <class T>
  Result<std::vector<T>> get_all(std::size_t count) {
    if (left_.size() / sizeof(T) < count) return error(Code::corrupt, "the record ends too early");
    std::vector<T> values;
    values.reserve(count);
    for (std::size_t i = 0; i < count; ++i) values.push_back(TRY(get<T>()));
    return values;
  }
  bool at_end() const { return left_.empty(); }

 private:
  std::span<const std::byte> left_;
};

}  // namespace aios::scheduler
