// How a context shuts itself off from the host before it runs foreign code.
#pragma once

#include <string>
#include <vector>

#include "abi/runtime/status.hpp"

namespace aios::cpu {

struct Confinement {
  /// A private folder for modules; empty when the process still sees the host's files.
  std::string module_folder;
  /// One line for each protection that this host does not give, and what that means.
  std::vector<std::string> missing;
};

/// Irrevocably: an empty, private, size-limited tmpfs as the root and nothing else mounted, no new
/// user namespaces, no capability in any set, no new privileges. Call it before threads start
/// (capabilities are per thread) and after every library is loaded. The file system is changed only
/// when this is the first process of a pid namespace, which the kernel makes together with a mount
/// namespace; otherwise, or where the host forbids a step, it goes on without and says so.
/// internal: the process was left half way, and must end.
Result<Confinement> lock_in();

}  // namespace aios::cpu
