// aiosctl simulate: hands everything to aios-simulate, which has the scheduler's core in it.
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "tools/aiosctl/commands.hpp"
#include "tools/aiosctl/install_paths.hpp"

namespace aios::ctl {

namespace {

int simulate(const std::vector<std::string>& arguments) {
  const Result<std::string> libexec = find_libexec();
  if (!libexec) return report(libexec.error());
  std::vector<std::string> command{*libexec + "/aios-simulate"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  ::execv(words[0], words.data());
  return report(errno_error("start " + command[0], errno).error());
}

}  // namespace

void add_simulate_command(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "simulate", "Runs a task graph in virtual time (simulate --help lists the options)");
  // Its options are aios-simulate's own, --help among them.
  command->set_help_flag();
  command->fallthrough(false);
  command->prefix_command();
  command->callback([&session, command] {
    session.action = [command] {
      std::vector<std::string> arguments = command->remaining();
      if (arguments.empty()) arguments.push_back("--help");
      return simulate(arguments);
    };
  });
}

}  // namespace aios::ctl
