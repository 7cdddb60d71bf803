// What libaios knows of the methods of AIOS's own servers, which programs may call by number.
#pragma once

#include <cstdint>
#include <string_view>

namespace aios::lib {

/// Whether a call that its server's death interrupts may be made again. False for what is unknown.
bool is_known_idempotent(std::string_view service, std::uint16_t opcode);

}  // namespace aios::lib
