// The part of the kernel's Linux seam that makes and signals children, without Linux: a kernel
// under the fuzzer starts nothing, and what happens to its children is the fuzzer's to say.
#pragma once

#include <signal.h>

#include <vector>

#include "abi/runtime/fd.hpp"

namespace aios::fuzz {

struct FakeChild {
  Fd socket;  ///< the child's end of its connection; invalid for a helper of the kernel's own
  int pidfd;  ///< its number in the kernel
  bool ended = false;
  int code = SIGKILL;  ///< how
  bool signalled = true;
};

/// Those that were spawned since the last `forget_children`, in order.
std::vector<FakeChild>& fake_children();
void forget_children();

}  // namespace aios::fuzz
