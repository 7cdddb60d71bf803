// aios-kernel: the kernel process of one AIOS instance.
#include <getopt.h>

#include <cstdio>

#include "abi/runtime/log.hpp"
#include "kernel/kernel_server.hpp"

namespace {

constexpr const char* usage =
    "usage: aios-kernel --state DIR --supervisor PATH [--socket PATH] [--manifest PATH]\n"
    "                   [--libexec DIR] [--group GID]\n"
    "Runs one AIOS instance in the foreground until SIGINT or SIGTERM.\n";

/// False when the command line is wrong. What is not for the kernel alone the supervisor gets, too.
bool parse(int argc, char** argv, aios::kernel::Settings& settings) {
  static constexpr option names[] = {{"state", required_argument, nullptr, 's'},
                                     {"supervisor", required_argument, nullptr, 'v'},
                                     {"socket", required_argument, nullptr, 'k'},
                                     {"group", required_argument, nullptr, 'g'},
                                     {"manifest", required_argument, nullptr, 'm'},
                                     {"libexec", required_argument, nullptr, 'l'},
                                     {}};
  int at = 0;
  for (int letter = 0; (letter = ::getopt_long(argc, argv, "", names, &at)) != -1;) {
    if (letter == '?') return false;
    const auto path = std::filesystem::absolute(optarg).lexically_normal();
    if (letter == 's') settings.state = path;
    if (letter == 'v') settings.supervisor = path;
    if (letter == 'k') settings.socket = path;
    if (letter == 'v' || letter == 'k') continue;
    settings.supervisor_arguments.push_back(std::string("--") + names[at].name);
    settings.supervisor_arguments.push_back(letter == 'g' ? std::string(optarg) : path.string());
  }
  return optind == argc && !settings.state.empty() && !settings.supervisor.empty();
}

}  // namespace

int main(int argc, char** argv) {
  aios::kernel::Settings settings{.control_groups = true};
  if (!parse(argc, argv, settings)) {
    std::fputs(usage, stderr);
    return 2;
  }
  aios::log_in_background();
  const std::string state = settings.state;
  aios::Result<void> prepared = aios::kernel::sys::prepare_self();
  auto server = prepared ? aios::kernel::KernelServer::create(std::move(settings))
                         : std::unexpected(prepared.error());
  if (server) return (*server)->run();
  aios::log_line("cannot start an instance at " + state + ": " + server.error().message());
  return 1;
}
