// aiosctl simulate: hands everything to aios-simulate, which has the scheduler's core in it, and
// tells it of the devices here.
#include <fmt/core.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "tools/aiosctl/commands.hpp"
#include "tools/aiosctl/common/install_paths.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/graphs/placements.hpp"

namespace aios::ctl {

namespace {

/// Of something as fast as a GPU nothing is known here: as in the usual devices, so many cores.
constexpr int cores_of_a_gpu = 20;

/// As --devices has it; empty: AIOS does not run here, or has none.
std::string devices_here(const Session& session) {
  const auto listed = [&]() -> Result<std::vector<ListedDevice>> {
    Operator attached = TRY(Operator::attach(session));
    return list_devices(*TRY(attached.client("scheduler", proto::scheduler::Protocol::version)));
  }();
  std::string all;
  if (!listed) return all;
  for (const ListedDevice& one : *listed) {
    const auto& device = one.device;
    if (device.health == static_cast<std::uint32_t>(proto::driver::Health::failed)) continue;
    if (!all.empty()) all += ',';
    if (device.own_memory == 0)
      all += fmt::format("cpu:{}", std::max(device.threads, 1u));
    else
      all += fmt::format("{}:1@{}", device.kind.view(), cores_of_a_gpu);
  }
  return all;
}

bool says_nothing_of_devices(const std::vector<std::string>& arguments) {
  return std::ranges::none_of(arguments, [](const std::string& argument) {
    return argument.starts_with("--devices") || argument == "--help";
  });
}

int simulate(const Session& session, const std::vector<std::string>& arguments) {
  const Result<std::string> libexec = find_libexec();
  if (!libexec) return report(libexec.error());
  std::vector<std::string> command{*libexec + "/aios-simulate"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  if (says_nothing_of_devices(arguments))
    if (const std::string here = devices_here(session); !here.empty()) {
      command.push_back("--devices-here");
      command.push_back(here);
    }
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
    session.action = [&session, command] {
      std::vector<std::string> arguments = command->remaining();
      if (arguments.empty()) arguments.push_back("--help");
      return simulate(session, arguments);
    };
  });
}

}  // namespace aios::ctl
