// aios-kernel: the kernel process of one AIOS instance.
#include <getopt.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <string>

#include "abi/runtime/log.hpp"
#include "kernel/kernel_server.hpp"

namespace {

constexpr const char* usage =
    "usage: aios-kernel --state DIR --supervisor PATH [--manifest PATH] [--libexec DIR]\n"
    "Runs one AIOS instance in the foreground until SIGINT or SIGTERM.\n";

struct Options {
  std::string state;
  std::string supervisor;
  std::string manifest;
  std::string libexec;
};

bool parse(int argc, char** argv, Options& options) {
  static constexpr std::array<option, 5> names = {{{"state", required_argument, nullptr, 's'},
                                                   {"supervisor", required_argument, nullptr, 'v'},
                                                   {"manifest", required_argument, nullptr, 'm'},
                                                   {"libexec", required_argument, nullptr, 'l'},
                                                   {nullptr, 0, nullptr, 0}}};
  for (int letter = 0; (letter = ::getopt_long(argc, argv, "", names.data(), nullptr)) != -1;) {
    switch (letter) {
      case 's':
        options.state = optarg;
        break;
      case 'v':
        options.supervisor = optarg;
        break;
      case 'm':
        options.manifest = optarg;
        break;
      case 'l':
        options.libexec = optarg;
        break;
      default:
        return false;
    }
  }
  return optind == argc && !options.state.empty() && !options.supervisor.empty();
}

aios::kernel::Settings settings_of(const Options& options) {
  aios::kernel::Settings settings;
  settings.state = std::filesystem::absolute(options.state).lexically_normal();
  settings.supervisor = std::filesystem::absolute(options.supervisor);
  settings.supervisor_arguments = {"--state", settings.state};
  if (!options.manifest.empty()) {
    settings.supervisor_arguments.push_back("--manifest");
    settings.supervisor_arguments.push_back(std::filesystem::absolute(options.manifest));
  }
  if (!options.libexec.empty()) {
    settings.supervisor_arguments.push_back("--libexec");
    settings.supervisor_arguments.push_back(std::filesystem::absolute(options.libexec));
  }
  return settings;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fputs(usage, stderr);
    return 2;
  }
  using aios::log_line;
  namespace sys = aios::kernel::sys;
  if (auto prepared = sys::prepare_self(); !prepared) {
    log_line("cannot start: " + prepared.error().to_string());
    return 1;
  }
  auto server = aios::kernel::KernelServer::create(settings_of(options));
  if (!server) {
    const bool in_use = server.error().code() == aios::Code::already_exists;
    log_line(in_use ? options.state + ": " + server.error().message()
                    : "cannot start: " + server.error().to_string());
    return 1;
  }
  return (*server)->run();
}
