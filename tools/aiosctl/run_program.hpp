// aiosctl run: a program as a job of its own.
#pragma once

#include <string>
#include <vector>

#include "abi/runtime/status.hpp"
#include "tools/aiosctl/commands.hpp"

namespace aios::ctl {

struct RunOptions {
  std::string job;     ///< empty: run-PID
  std::string memory;  ///< quota of the job, as parse_size reads it; empty: inherited
  std::vector<std::string> command;
};

/// Attaches as the job, runs the command with AIOS_SOCKET and AIOS_JOB in its environment, forwards
/// signals to it and returns its exit code (128 + signal when one killed it; 127 when it cannot be
/// run). The job, and all that runs in it, ends with the command.
Result<int> run_program(const Session& session, const RunOptions& options);

}  // namespace aios::ctl
