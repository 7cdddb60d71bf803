// What an instance looks like at the moment of a breach: for whoever has to find its cause.
#pragma once

#include "tests/fault/system.hpp"

namespace aios::fault {

/// Writes to standard error how the supervisor sees each server, which processes live, what every
/// link is, which tasks each scheduler has, and what the kernel's descriptors are. Takes a second
/// for each scheduler that does not answer.
void print_state(System& system);

}  // namespace aios::fault
