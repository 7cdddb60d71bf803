// What libaios knows of the methods of AIOS's own servers, which programs may call by number.
#pragma once

#include <cstdint>
#include <string_view>

namespace aios::lib {

/// Whether a call of the method `opcode` that its server's death interrupts may be made again.
using IsIdempotent = bool (*)(std::uint16_t opcode);
/// That of the methods of `service`: none of them when it is unknown.
IsIdempotent idempotent_methods_of(std::string_view service);

}  // namespace aios::lib
