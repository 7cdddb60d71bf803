// A throw-away child, to try in it what a sandbox of this host holds.
#pragma once

#include <functional>
#include <string>

#include "abi/runtime/status.hpp"
#include "abi/runtime/time.hpp"

namespace aios::sandbox {

struct Ended {
  bool signalled = false;
  int code = 0;          ///< exit code, or the signal
  std::string output{};  ///< what it wrote to the descriptor it was given, at most 64 KiB
};

/// Runs `body` in a child: cloned as the kernel of AIOS does it when `namespaces` is set, process 1
/// and uid 0 inside, and outside the caller's user if `keep_user`, else nobody where the caller is
/// root. It is given a descriptor to write to, and its result is the exit code. The
/// child and all it started are gone afterwards; after `deadline` by SIGKILL. The caller has one
/// thread. not_supported, with the reason, where the host forbids namespaces.
Result<Ended> run_in_cage(bool namespaces, bool keep_user, const std::function<int(int)>& body,
                          Deadline deadline);

}  // namespace aios::sandbox
