// Starting an instance and staying with it.
#pragma once

#include <string>

#include "abi/runtime/status.hpp"
#include "tools/aiosctl/commands.hpp"

namespace aios::ctl {

struct BootOptions {
  std::string manifest;  ///< empty: the default one
  bool detach = false;
  bool system = false;  ///< other users may use it, too: those of `group`
  std::string group;    ///< empty: `aios` where there is such a group, else root's alone
};

/// Starts aios-kernel, prints a line for each server as it answers, and then stays until the
/// instance ends (SIGINT, SIGTERM and SIGHUP end it in order), or, detached, returns once it is up.
/// The exit code. When it does not come up, the end of its logs is printed and nothing is left
/// running. already_exists when an instance answers there. A second
/// signal hurries the end. A service manager that waits for us is told how far we are.
Result<int> boot(const Session& session, const BootOptions& options);

}  // namespace aios::ctl
