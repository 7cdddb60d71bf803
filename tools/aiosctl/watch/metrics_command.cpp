// aiosctl metrics: an instance in numbers, once; aios-metrics has them ready for who collects them.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <memory>

#include "abi/runtime/command_line.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/commands.hpp"
#include "tools/aiosctl/common/install_paths.hpp"
#include "tools/aiosctl/watch/open_metrics.hpp"

namespace aios::ctl {

namespace {

Result<int> print_metrics(const Session& session) {
  Watcher watcher = TRY(Watcher::attach(session));
  print_to(stdout, "{}", to_open_metrics(TRY(watcher.look())));
  return exit_done;
}

/// Another program, for what speaks HTTP has no business in aiosctl.
Result<int> become_listener(const Session& session, const std::string& address) {
  const std::string program = TRY(find_libexec()) + "/aios-metrics";
  ::execl(program.c_str(), program.c_str(), session.socket.c_str(), address.c_str(), nullptr);
  return errno_error("start " + program, errno);
}

}  // namespace

void add_metrics_command(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("metrics", "The instance in numbers, as OpenMetrics, for Prometheus");
  const auto address = std::make_shared<std::string>();
  command
      ->add_option("--listen", *address,
                   "Stay, and answer GET /metrics at this port of 127.0.0.1, or at this "
                   "ADDRESS:PORT: whoever reaches it may read them")
      ->check(command_line::names_something());
  command->callback([&session, address] {
    session.action = [&session, address] {
      return run_command([&] {
        return address->empty() ? print_metrics(session) : become_listener(session, *address);
      });
    };
  });
}

}  // namespace aios::ctl
