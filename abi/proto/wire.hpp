// What every message between two processes is made of.
//
// A wire struct is trivially copyable and has no padding, so that its bytes are its value; reserved
// fields are zero. Nothing here depends on the runtime: a peer written in another language needs
// only these layouts, which tools/protodump prints into protocols.lock, and how the few messages
// end that are trimmed (Trimmed, below).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace aios::proto {

template <class T>
concept WireStruct = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> &&
    std::has_unique_object_representations_v<T>;

/// Greatest payload of one ring message: 8 slots less their sequence numbers and the header.
inline constexpr std::size_t max_payload_bytes = 440;

struct FieldInfo {
  const char* name;
  std::size_t offset;
  std::size_t size;
};

/// A short string in a fixed field: `N` bytes, always NUL-terminated, zero after the NUL.
/// `valid()` must be checked on a copy before `view()` of anything a peer sent.
template <std::size_t N>
struct Text {
  char bytes[N];

  /// Cuts what does not fit; use `fits` first where that would be an error.
  static constexpr Text from(std::string_view text) {
    Text out{};
    const std::size_t n = text.size() < N ? text.size() : N - 1;
    for (std::size_t i = 0; i < n; ++i) out.bytes[i] = text[i];
    return out;
  }
  static constexpr bool fits(std::string_view text) {
    return text.size() < N && text.find('\0') == std::string_view::npos;
  }
  constexpr std::string_view view() const {
    std::size_t n = 0;
    while (n < N && bytes[n] != '\0') ++n;
    return {bytes, n};
  }
  constexpr bool valid() const {
    const std::size_t n = view().size();
    if (n == N) return false;
    for (std::size_t i = n; i < N; ++i)
      if (bytes[i] != '\0') return false;
    return true;
  }
};

/// The request or reply of a method that has nothing to say.
struct Empty {
  std::uint64_t reserved;
  static constexpr auto fields() { return std::array{FieldInfo{"reserved", 0, 8}}; }
};

template <class... Methods>
struct MethodList {
  static constexpr std::size_t size = sizeof...(Methods);
};

/// A method is `struct { opcode; name; struct Request; struct Reply; }`. Opcodes are never reused.
template <class M>
concept Method = WireStruct<typename M::Request> && WireStruct<typename M::Reply> &&
                     sizeof(typename M::Request) <= max_payload_bytes
                 && sizeof(typename M::Reply) <= max_payload_bytes - 8;

/// A method with `static constexpr bool idempotent = true` may be done twice: when its server dies
/// under it, the calling side asks the next one again by itself, within the call's deadline.
template <class M>
constexpr bool is_idempotent() {
  if constexpr (requires { M::idempotent; }) return M::idempotent;
  return false;
}

/// A method with `static constexpr bool parks = true` is answered when something else happens, not
/// when work that it asks for is done: while it waits it cannot be what ends its server.
template <class M>
constexpr bool does_park() {
  if constexpr (requires { M::parks; }) return M::parks;
  return false;
}

/// A method whose messages end where they have no more to say. `used_bytes` tells of a request and
/// of a reply, by their own fields, how much of it is sent; whoever gets it finds zeros behind
/// that. `most_reply_bytes` tells of a request what its good answer takes at most.
template <class M>
concept Trimmed = requires(const typename M::Request& request, const typename M::Reply& reply) {
  M::used_bytes(request);
  M::used_bytes(reply);
  M::most_reply_bytes(request);
};

template <class M, class T>
std::span<const std::byte> bytes_to_send(const T& message) {
  const auto all = std::as_bytes(std::span(&message, 1));
  if constexpr (Trimmed<M>)
    return all.first(M::used_bytes(message));
  else
    return all;
}

/// False: they are not as many as a `T` of the method has.
template <class M, class T>
bool take_bytes(std::span<const std::byte> bytes, T& message) {
  if (Trimmed<M> ? bytes.size() > sizeof message : bytes.size() != sizeof message) return false;
  std::ranges::copy(bytes, reinterpret_cast<std::byte*>(&message));
  if constexpr (Trimmed<M>) {
    std::memset(reinterpret_cast<std::byte*>(&message) + bytes.size(), 0,
                sizeof message - bytes.size());
    return M::used_bytes(message) == bytes.size();
  }
  return true;
}

/// Opcode 0 of every protocol: does nothing, answers at once. The supervisor's heartbeat.
struct Null {
  static constexpr std::uint16_t opcode = 0;
  static constexpr const char* name = "null";
  using Request = Empty;
  using Reply = Empty;
};

/// The instance is about to stop, says the supervisor: from now on the server refuses new work of
/// programs with service_down, and answers when the work that it had is done. The supervisor does
/// not wait for ever. denied for anybody else.
struct Drain {
  static constexpr std::uint16_t opcode = 0x7FFF;
  static constexpr const char* name = "drain";
  using Request = Empty;
  using Reply = Empty;
};

template <class... Ms>
consteval bool opcodes_are_unique(MethodList<Ms...>) {
  const std::uint16_t codes[] = {Ms::opcode...};
  for (std::size_t i = 0; i < sizeof...(Ms); ++i)
    for (std::size_t j = i + 1; j < sizeof...(Ms); ++j)
      if (codes[i] == codes[j]) return false;
  return true;
}

/// True when the listed fields cover the struct without gap or overlap, in order.
template <class T>
consteval bool fields_cover() {
  std::size_t at = 0;
  for (const FieldInfo& f : T::fields()) {
    if (f.offset != at) return false;
    at += f.size;
  }
  return at == sizeof(T);
}

}  // namespace aios::proto

// AIOS_FIELDS(Struct, a, b, c): names the fields of a wire struct, for protocols.lock.
#define AIOS_PARENS ()
#define AIOS_EXPAND(...) AIOS_EXPAND3(AIOS_EXPAND3(AIOS_EXPAND3(__VA_ARGS__)))
#define AIOS_EXPAND3(...) AIOS_EXPAND2(AIOS_EXPAND2(AIOS_EXPAND2(__VA_ARGS__)))
#define AIOS_EXPAND2(...) AIOS_EXPAND1(AIOS_EXPAND1(AIOS_EXPAND1(__VA_ARGS__)))
#define AIOS_EXPAND1(...) __VA_ARGS__
#define AIOS_FIELD_EACH(S, a, ...)                            \
  ::aios::proto::FieldInfo{#a, offsetof(S, a), sizeof(S::a)}, \
      __VA_OPT__(AIOS_FIELD_AGAIN AIOS_PARENS(S, __VA_ARGS__))
#define AIOS_FIELD_AGAIN() AIOS_FIELD_EACH
#define AIOS_FIELDS(S, ...)                              \
  static constexpr auto fields() {                       \
    return std::to_array<::aios::proto::FieldInfo>(      \
        {AIOS_EXPAND(AIOS_FIELD_EACH(S, __VA_ARGS__))}); \
  }
