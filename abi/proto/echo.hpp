// The smallest server: answers what it is sent. For tests, benchmarks and as an example.
#pragma once

#include "abi/proto/kernel.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::echo {

struct Echo {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "echo";
  static constexpr bool idempotent = true;
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
  static constexpr bool parks = true;
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

inline constexpr std::uint32_t max_attached_regions = 4;  ///< of one client
/// Keeps a region (map_read, moved over this link) mapped until it is detached or the link ends.
/// quota.
struct Attach {
  static constexpr std::uint16_t opcode = 5;
  static constexpr const char* name = "attach";
  struct Request {
    kernel::Handle region;
    AIOS_FIELDS(Request, region)
  };
  struct Reply {
    std::uint64_t region;
    AIOS_FIELDS(Reply, region)
  };
};

/// Sums the 64-bit words of (offset, length) of an attached region; a length of 8 reads one word.
/// not_found; invalid_argument for a range that is not in the region or not of whole words.
struct Read {
  static constexpr std::uint16_t opcode = 6;
  static constexpr const char* name = "read";
  struct Request {
    std::uint64_t region;
    std::uint64_t offset;
    std::uint64_t length;
    AIOS_FIELDS(Request, region, offset, length)
  };
  struct Reply {
    std::uint64_t sum;
    AIOS_FIELDS(Reply, sum)
  };
};

/// not_found.
struct Detach {
  static constexpr std::uint16_t opcode = 7;
  static constexpr const char* name = "detach";
  struct Request {
    std::uint64_t region;
    AIOS_FIELDS(Request, region)
  };
  using Reply = Empty;
};

struct Protocol {
  static constexpr const char* name = "echo";
  static constexpr std::uint16_t version = 2;
  using Methods = MethodList<Null, Echo, Hold, Release, Sum, Attach, Read, Detach>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

}  // namespace aios::proto::echo
