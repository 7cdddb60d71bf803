// What several tests of contexts need.
#pragma once

#include <cstddef>

#include "abi/runtime/fd.hpp"

namespace aios::device::test {

/// A zeroed memory file as the kernel makes regions: sealed against shrinking.
Fd make_memory(std::size_t size_bytes);

}  // namespace aios::device::test
