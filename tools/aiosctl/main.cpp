// aiosctl: the tool of operators and users. Wiring only; see commands.hpp.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "abi/runtime/command_line.hpp"
#include "abi/runtime/kernel.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/commands.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/common/usage.hpp"

namespace aios::ctl {

int report(const Status& status) {
  std::fflush(stdout);
  std::string text = printable(status.message());
  if (text.empty()) text = code_name(status.code());
  std::fprintf(stderr, "aiosctl: %s\n", text.c_str());
  return status.code() == Code::unreachable ? exit_unreachable : exit_failed;
}

namespace {

/// Fills in what the command line left out.
void find_instance(Session& session) {
  // A state folder that was named says which instance is meant, more than the environment does.
  const bool state_given = !session.state.empty();
  const bool socket_given = !session.socket.empty();
  session.state = state_given         ? std::filesystem::absolute(session.state).string()
                  : session.of_system ? system_state_folder
                                      : default_state_folder();
  if (session.of_system) {
    if (!socket_given) session.socket = system_socket_path;
  } else if (!socket_given) {
    const char* named = std::getenv("AIOS_SOCKET");
    const bool own = state_given || (session.boots && (named == nullptr || *named == '\0'));
    session.socket = own ? session.state + "/aios.sock" : default_socket_path(session.state);
  }
  // What is started for it may be in another folder.
  session.socket = std::filesystem::absolute(session.socket).string();
  if (!state_given && session.socket == system_socket_path) session.state = system_state_folder;
}

/// Parses the words, and does what they ask for. The exit code.
int obey(CLI::App& app, Session& session, std::vector<std::string> words) {
  std::reverse(words.begin(), words.end());
  try {
    app.parse(std::move(words));
  } catch (const CLI::ParseError& failure) {
    return app.exit(failure) == 0 ? exit_done : exit_usage;
  }
  find_instance(session);
  const std::function<int()> action = std::exchange(session.action, nullptr);
  return action ? action() : exit_usage;
}

/// Only the commands themselves know their help: simulate's is another program's.
int help_on(CLI::App& app, Session& session, std::vector<std::string> words) {
  const CLI::App* at = &app;
  for (const std::string& word : words) {
    const CLI::App* next = subcommand(*at, word);
    if (next == nullptr) {
      std::fputs(no_such_command(*at, word).c_str(), stderr);
      return exit_usage;
    }
    at = next;
  }
  words.emplace_back("--help");
  return obey(app, session, std::move(words));
}

void add_help_command(CLI::App& app, Session& session) {
  CLI::App* help = app.add_subcommand("help", "What a command is for and what it takes");
  const auto words = std::make_shared<std::vector<std::string>>();
  help->add_option("COMMAND", *words, "Such as: graph run [all commands]");
  help->callback([&app, &session, words] {
    session.action = [&app, &session, words] { return help_on(app, session, *words); };
  });
}

}  // namespace

}  // namespace aios::ctl

int main(int argc, char** argv) {
  using namespace aios::ctl;
  aios::hold_standard_streams();
  CLI::App app("Boots, watches and uses AIOS. More about a command: aiosctl help COMMAND",
               "aiosctl");
  app.require_subcommand(1);
  app.fallthrough();
  app.failure_message([](const CLI::App* root, const CLI::Error& failure) {
    return usage_failure(*root, failure);
  });
  Session session;
  app.add_option("--state", session.state,
                 "The instance's state folder [$XDG_STATE_HOME/aios or ~/.local/state/aios]")
      ->check(aios::command_line::names_something());
  app.add_option("--socket", session.socket,
                 "Its socket [$AIOS_SOCKET, STATE/aios.sock, or that of the system's instance]")
      ->check(aios::command_line::names_something());
  app.set_version_flag("--version", AIOS_VERSION);
  app.footer("Exit codes: 0 done, 1 failed, 2 usage, 3 cannot reach AIOS.");
  add_help_command(app, session);
  add_instance_commands(app, session);
  add_doctor_command(app, session);
  add_process_commands(app, session);
  add_job_commands(app, session);
  add_mapreduce_commands(app, session);
  add_device_commands(app, session);
  add_top_command(app, session);
  add_metrics_command(app, session);
  add_task_commands(app, session);
  add_graph_commands(app, session);
  add_explain_commands(app, session);
  add_trace_command(app, session);
  add_fs_commands(app, session);
  add_simulate_command(app, session);
  add_bench_commands(app, session);
  add_shell_command(app, session);
  return aios::finish_output("aiosctl", obey(app, session, {argv + 1, argv + argc}));
}
