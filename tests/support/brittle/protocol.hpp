// A server for tests that can be made to crash by a request.
#pragma once

#include "abi/proto/wire.hpp"

namespace aios::proto::brittle {

/// Answers `value` after `delay_ns`. Not zero: `crash` ends the server with SIGABRT, `endless`
/// keeps it busy for ever, in either case before anything else.
struct Work {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "work";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t value;
    std::uint64_t delay_ns;
    std::uint32_t crash;
    std::uint32_t endless;
    AIOS_FIELDS(Request, value, delay_ns, crash, endless)
  };
  struct Reply {
    std::uint64_t value;
    std::uint64_t most_at_once;  ///< requests that this server has had in flight at one time
    AIOS_FIELDS(Reply, value, most_at_once)
  };
};

struct Protocol {
  static constexpr const char* name = "brittle";
  static constexpr std::uint16_t version = 1;
  using Methods = MethodList<Null, Work>;
};

}  // namespace aios::proto::brittle
