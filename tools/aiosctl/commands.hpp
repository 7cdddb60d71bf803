// How the subcommands of aiosctl are put together: each group registers its own with CLI11 and,
// when chosen, leaves an action that main runs after parsing.
#pragma once

#include <functional>
#include <string>

#include "abi/runtime/status.hpp"

namespace CLI {
class App;
}

namespace aios::ctl {

/// Exit codes of aiosctl.
inline constexpr int exit_done = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_unreachable = 3;

struct Session {
  std::string state;       ///< --state, or the default state folder
  std::string socket;      ///< --socket, $AIOS_SOCKET, or where an instance is found
  bool json = false;       ///< --json of the chosen subcommand
  bool boots = false;      ///< the subcommand starts an instance rather than look for one
  bool of_system = false;  ///< and it is the system's
  std::function<int()> action;
};

/// Prints "aiosctl: MESSAGE" to standard error; `unreachable` gives exit code 3, all else 1.
int report(const Status& status);

void add_instance_commands(CLI::App& app, Session& session);  // boot shutdown status run
void add_doctor_command(CLI::App& app, Session& session);     // doctor
void add_process_commands(CLI::App& app,
                          Session& session);                   // ps kill suspend resume …
void add_job_commands(CLI::App& app, Session& session);        // jobs
void add_device_commands(CLI::App& app, Session& session);     // devices
void add_top_command(CLI::App& app, Session& session);         // top
void add_metrics_command(CLI::App& app, Session& session);     // metrics
void add_task_commands(CLI::App& app, Session& session);       // tasks
void add_graph_commands(CLI::App& app, Session& session);      // graph run, list
void add_explain_commands(CLI::App& app, Session& session);    // explain models bottlenecks
void add_trace_command(CLI::App& app, Session& session);       // trace
void add_fs_commands(CLI::App& app, Session& session);         // fs …
void add_bench_commands(CLI::App& app, Session& session);      // bench …
void add_simulate_command(CLI::App& app, Session& session);    // simulate
void add_mapreduce_commands(CLI::App& app, Session& session);  // mapreduce …

/// Last: it completes what the others have registered.
void add_shell_command(CLI::App& app, Session& session);  // shell

}  // namespace aios::ctl
