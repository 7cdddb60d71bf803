// The part of locking in that Landlock does: access to files by path, ports of TCP, signals and
// abstract sockets.
#pragma once

#include "abi/runtime/sandbox/rules.hpp"

namespace aios::sandbox {

struct LandlockOutcome {
  std::uint32_t abi = 0;
  bool files = false;
  bool scopes = false;
  std::string files_reason{};
  std::string scopes_reason{};
};

/// Restricts the calling thread and all it starts. Which of files and scopes are wanted is said,
/// so that each can be tried alone.
LandlockOutcome restrict_by_landlock(const Rules& rules, bool files, bool scopes);

}  // namespace aios::sandbox
