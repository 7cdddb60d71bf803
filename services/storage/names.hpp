// What object names and prefixes may look like, and whose namespace a client sees.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "abi/runtime/link.hpp"
#include "abi/runtime/status.hpp"

namespace aios::storage {

inline constexpr std::size_t max_name_bytes = 199;

/// 1 to 199 bytes; components separated by single '/', none empty, "." or ".."; no control bytes.
/// invalid_argument, saying which rule was broken.
Result<> check_object_name(std::string_view name);

/// Any beginning of an object name, also the empty one. invalid_argument.
Result<> check_prefix(std::string_view prefix);

/// An object name followed by '/': a prefix that names a folder. invalid_argument.
Result<> check_folder_prefix(std::string_view prefix);

/// Names one object of one namespace.
struct ObjectKey {
  std::string space;
  std::string name;
};

/// The namespace that a peer sees: `s:NAME` for a server of AIOS, `u<UID>` for everybody else,
/// operators included: nobody sees the objects of another user.
std::string namespace_of(const PeerInfo& peer);

}  // namespace aios::storage
