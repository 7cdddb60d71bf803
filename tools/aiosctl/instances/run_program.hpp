// Running a program as a job of its own.
#pragma once

#include <string>
#include <vector>

#include "abi/runtime/status.hpp"
#include "tools/aiosctl/commands.hpp"

namespace aios::ctl {

struct RunOptions {
  std::string job;              ///< empty: run-PID
  std::string memory;           ///< as parse_size takes it; empty: no quota
  std::string cpus;             ///< cores, such as "1.5"; empty: no quota
  std::uint32_t processes = 0;  ///< with their threads; 0: no quota
  bool strict = false;          ///< rather not at all than without a limit or protection asked for
  std::string sandbox;          ///< the profile in which it is locked in; empty: it is not
  std::vector<std::string> read;         ///< only with `sandbox`
  std::vector<std::string> write;        ///< only with `sandbox`
  std::vector<std::string> environment;  ///< NAME or NAME=VALUE; only with `sandbox`
  std::vector<std::string> command;
};

/// Thousandths of a core from "2", "0.5" or "1.25"; 0 for anything else, and below 0.01.
std::uint32_t parse_cpus(const std::string& text);

/// Runs the program in a job whose quota Linux holds it to, where the host lets it; what it does
/// not is said. AIOS_SOCKET and AIOS_JOB in its environment have it attach to that job. Signals are
/// passed on. It is ended when the job is: killed by an operator, or with the instance. The exit
/// code: the program's, 128 + the signal that ended it, or 127 when it cannot be run.
Result<int> run_program(const Session& session, const RunOptions& options);

}  // namespace aios::ctl
