// The smallest server: answers what it is sent. For tests, benchmarks and as an example.
#pragma once

#include "abi/proto/kernel.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::echo {

struct Echo {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "echo";
  struct Request {
    std::uint64_t value;
    std::uint8_t bytes[256];
    AIOS_FIELDS(Request, value, bytes)
  };
  using Reply = Request;
};

/// Answers when `release` is called on any link with the same `key`; shows deferred replies.
struct Hold {
  static constexpr std::uint16_t opcode = 2;
  static constexpr const char* name = "hold";
  struct Request {
    std::uint64_t key;
    AIOS_FIELDS(Request, key)
  };
  using Reply = Empty;
};

struct Release {
  static constexpr std::uint16_t opcode = 3;
  static constexpr const char* name = "release";
  struct Request {
    std::uint64_t key;
    AIOS_FIELDS(Request, key)
  };
  struct Reply {
    std::uint64_t released;
    AIOS_FIELDS(Reply, released)
  };
};

/// Sums the 64-bit words of a region (map_read, moved over this link).
struct Sum {
  static constexpr std::uint16_t opcode = 4;
  static constexpr const char* name = "sum";
  struct Request {
    kernel::Handle region;
    AIOS_FIELDS(Request, region)
  };
  struct Reply {
    std::uint64_t sum;
    AIOS_FIELDS(Reply, sum)
  };
};

struct Protocol {
  static constexpr const char* name = "echo";
  static constexpr std::uint16_t version = 1;
  using Methods = MethodList<Null, Echo, Hold, Release, Sum>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

}  // namespace aios::proto::echo
