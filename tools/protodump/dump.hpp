// Prints the layout of every message as text, one block per protocol, for abi/proto/protocols.lock;
// and compares two such texts.
//
//   protocol storage version 1
//     method 3 put
//       request 232
//         0 8 offset
//         ...
//
// A struct is a size in bytes and, below it, each field as "offset size name". dump.cpp does not
// compile when the fields of a struct leave a gap.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace aios::protodump {

/// The layouts that this program was compiled with.
std::string dump_all();

struct Block {
  std::string name;
  unsigned long version = 0;
  std::string text;  ///< without the line that names protocol and version
};
/// The blocks of a dump in their order. Empty lines, those that begin with '#' and those before the
/// first block are ignored.
std::vector<Block> parse(std::string_view text);

/// What is wrong with `current` given the recorded `lock`, a sentence per protocol; empty when the
/// two agree. A layout may change only together with its protocol's version, which only grows.
std::vector<std::string> compare(std::string_view lock, std::string_view current);

/// Of those, what recording `current` would not put right: layouts that changed under their old
/// version.
std::vector<std::string> drifted(std::string_view lock, std::string_view current);

}  // namespace aios::protodump
