// A throw-away child, to try in it what a sandbox of this host holds.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "abi/runtime/status.hpp"
#include "abi/runtime/time.hpp"

namespace aios::sandbox {

struct CageOptions {
  bool namespaces = true;  ///< else the child is as its parent
  uid_t user = 0;          ///< whose it is outside of its namespaces, if the caller is root
  bool own_group = true;   ///< of processes, so that it can be ended as a whole
};
/// Starts `body` in a child: cloned as the kernel of AIOS does it, process 1 and uid 0 inside. Its
/// result is the exit code. The child ends with the caller, and all that it started with it. The
/// caller has one thread. not_supported, with the reason, where the host forbids namespaces.
Result<pid_t> start_in_cage(const CageOptions& options, const std::function<int()>& body);

struct Ended {
  bool signalled = false;
  int code = 0;          ///< exit code, or the signal
  std::string output{};  ///< what it wrote to the descriptor it was given, at most 64 KiB
};

/// Runs `body` in such a child, outside of which it is the caller's user if `keep_user`, else
/// nobody where the caller is root. It is given a descriptor to write to. The child and all it
/// started are gone afterwards; after `deadline` by SIGKILL.
Result<Ended> run_in_cage(bool namespaces, bool keep_user, const std::function<int(int)>& body,
                          Deadline deadline);

}  // namespace aios::sandbox
