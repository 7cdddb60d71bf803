// Linux signals as something to poll for.
#pragma once

#include <initializer_list>

#include "abi/runtime/fd.hpp"

namespace aios {

/// Blocks these signals and returns a descriptor that is readable when one has come. Does not block
/// when read.
Result<Fd> make_signal_fd(std::initializer_list<int> numbers);
/// Takes the number of one signal from it; 0 when there is none.
int take_signal(const Fd& signal_fd);

}  // namespace aios
