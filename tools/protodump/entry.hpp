// The words in which tools/protodump/protocols.hpp lists protocols.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace aios::protodump {

/// A text that can be a template argument.
template <std::size_t N>
struct Literal {
  char bytes[N];
  consteval Literal(const char (&text)[N]) { std::copy_n(text, N, bytes); }
};

/// A struct with AIOS_FIELDS that is no request or reply.
template <Literal Name, class T>
struct Record {};

/// A number that both sides must agree on.
template <Literal Name, std::uint64_t Value>
struct Constant {};

/// A protocol and what belongs to it.
template <class Protocol, class... Parts>
struct Entry {};

template <class... Entries>
struct EntryList {};

}  // namespace aios::protodump
