// A program that is locked in before it begins, as abi/runtime/sandbox has it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "abi/proto/sandbox.hpp"
#include "abi/runtime/status.hpp"

namespace aios::ctl {

struct Confinement {
  /// `tool`, or `streaming`: it gets data, gives data, and calls nobody.
  proto::sandbox::Profile profile = proto::sandbox::Profile::tool;
  std::string socket;              ///< of the instance, which a `tool` may call; empty: none
  std::vector<std::string> read;   ///< what it may read and execute, beside the system's programs
  std::vector<std::string> write;  ///< what it may change
  std::vector<std::string> environment;  ///< all of it, "NAME=VALUE"
  bool strict = false;                   ///< every protection, or not at all
};

/// What of this process' environment no program has to be kept from: others, such as keys and
/// passwords, are not a locked in program's business. PREFIX* is all that begin so.
inline constexpr const char* shown_variables[] = {
    "PATH", "HOME", "USER",      "LOGNAME",  "SHELL", "LANG",  "LANGUAGE",
    "LC_*", "TERM", "COLORTERM", "NO_COLOR", "TZ",    "AIOS_*"};

/// These, and what `more` names ("NAME") or sets ("NAME=VALUE", last one counts), as "NAME=VALUE".
/// invalid_argument: something in `more` is no such name, or one that is not there.
Result<std::vector<std::string>> shown_environment(const std::vector<std::string>& more);

/// Starts `command` so that it sees the system's programs and libraries, its own file, what
/// `confinement` names and a folder /tmp in memory; no other file, no process and no network of the
/// host's, and of sockets at most the instance's. It stays in the working folder if it may see
/// that, else it is in /tmp. `prepare` runs in the child before; what it returns but 0 is the exit
/// code then. The child is process 1 of its own, hands on signals and ends with the program's exit
/// code, 128 + the signal that ended it, or 127 when it cannot be run. It ends with its parent.
/// not_found: something that is to be shown is not there; not_supported, saying what this host does
/// not give: it would not be confined.
Result<pid_t> start_confined(const std::vector<std::string>& command,
                             const Confinement& confinement, const std::function<int()>& prepare);

}  // namespace aios::ctl
