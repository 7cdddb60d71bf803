// aiosctl boot, shutdown, status and run.
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "abi/proto/supervisor.hpp"
#include "abi/runtime/command_line.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/listings.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/instances/boot.hpp"
#include "tools/aiosctl/instances/confined_program.hpp"
#include "tools/aiosctl/instances/run_program.hpp"

namespace aios::ctl {

namespace {

namespace pk = proto::kernel;
namespace ps = proto::supervisor;
using nlohmann::json;

/// Beyond what the instance itself allows its shutdown.
constexpr std::uint64_t shutdown_margin_ns = 5 * ns_per_s;

Result<int> shut_down(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  Kernel& kernel = attached.kernel();
  const Handle root = TRY(attached.root());
  const auto instance = TRY(kernel.call<pk::InstanceInfo>({})).reply;
  // The kernel process ends last, after everything that it started.
  const Fd process(
      static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(instance.pid), 0)));
  TRY(kernel.call<pk::InstanceShutdown>({root}));
  pollfd ended{process.valid() ? process.get() : kernel.socket_fd(),
               static_cast<short>(process.valid() ? POLLIN : POLLRDHUP), 0};
  const Deadline deadline = Deadline::after(instance.shutdown_timeout_ns + shutdown_margin_ns);
  while (::poll(&ended, 1, deadline.poll_timeout_ms()) < 0 && errno == EINTR) {
  }
  if (ended.revents == 0)
    return error(Code::timed_out,
                 fmt::format("the instance did not end in time; its kernel is process {}, and "
                             "{}/logs tells what its servers do",
                             instance.pid, session.state));
  print_to(stdout, "AIOS is down\n");
  return exit_done;
}

/// What each process says of its sandbox, by id; nothing for those who may not list processes.
Result<std::map<std::uint64_t, proto::sandbox::Confined>> list_sandboxes(Operator& attached) {
  std::map<std::uint64_t, proto::sandbox::Confined> found;
  if (!attached.root()) return found;
  for (const pk::ProcessRecord& process : TRY(list_processes(attached)))
    if (const auto confined = proto::sandbox::Confined::from(process.sandbox))
      found.emplace(process.process_id, *confined);
  return found;
}

/// "full", or "8 of 10" protections; "-" for what has not said anything.
std::string sandbox_text(const std::map<std::uint64_t, proto::sandbox::Confined>& sandboxes,
                         std::uint64_t process_id) {
  const auto found = sandboxes.find(process_id);
  if (found == sandboxes.end()) return "-";
  if (found->second.profile == proto::sandbox::Profile::open) return "open";
  const int count = std::popcount(found->second.enforced);
  if (found->second.enforced == proto::sandbox::all_protections) return "full";
  return fmt::format("{} of {}", count, proto::sandbox::protection_names.size());
}

std::uint64_t age_ns(std::uint64_t since_ns) {
  const std::uint64_t now = now_ns();
  return since_ns == 0 || since_ns > now ? 0 : now - since_ns;
}

json server_json(const ListedServer& server, const std::string& sandbox) {
  const bool runs = server.pid != 0;
  return {{"name", server.server.view()},
          {"state", state_name(server)},
          {"pid", server.pid},
          {"process_id", server.process_id},
          {"epoch", server.epoch},
          {"restarts", server.restarts},
          {"missed_heartbeats", server.missed_heartbeats},
          {"heartbeat_ns", server.heartbeat_ns},
          {"uptime_ns", runs ? age_ns(server.started_ns) : 0},
          {"sandbox", sandbox},
          {"last_end", server.last_end.view()},
          {"last_words", server.last_words.view()}};
}

void print_status(const Session& session, const pk::InstanceInfo::Reply& instance,
                  const std::vector<ListedServer>& servers,
                  const std::map<std::uint64_t, proto::sandbox::Confined>& sandboxes) {
  print_to(stdout, "AIOS at {}: up {}, kernel pid {}, {} processes, {} links, {} in {} regions\n",
           session.socket, human_duration(age_ns(instance.started_ns)), instance.pid,
           instance.processes, instance.links, human_bytes(instance.region_bytes),
           instance.regions);
  if (instance.open_to_users != 0) print_to(stdout, "Other users may use it, each for itself.\n");
  if (instance.user_namespaces == 0)
    print_to(stdout, "This host allows no user namespaces; what that means says: aiosctl doctor\n");
  Table table({{"SERVER"},
               {"STATE"},
               {"PID", Align::right},
               {"RESTARTS", Align::right},
               {"HEARTBEAT", Align::right},
               {"UPTIME", Align::right},
               {"SANDBOX"},
               {"LAST END"}});
  for (const ListedServer& server : servers)
    table.add({std::string(server.server.view()), std::string(state_name(server)),
               server.pid == 0 ? "-" : std::to_string(server.pid), std::to_string(server.restarts),
               server.heartbeat_ns == 0 ? "-" : human_duration(server.heartbeat_ns),
               server.pid == 0 ? "-" : human_duration(age_ns(server.started_ns)),
               sandbox_text(sandboxes, server.process_id), std::string(server.last_end.view())});
  table.print();
  for (const ListedServer& server : servers) {
    const auto state = static_cast<ps::ServerState>(server.state);
    if (state != ps::ServerState::failed && state != ps::ServerState::quarantined) continue;
    const std::string name = printable(server.server.view());
    print_to(stdout, "{} is down{}{}; see aiosctl logs {}, start it with aiosctl restart {}\n",
             name, server.last_words.view().empty() ? "" : " and said last: ",
             printable(server.last_words.view()), name, name);
  }
}

Result<int> show_status(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const auto instance = TRY(attached.kernel().call<pk::InstanceInfo>({})).reply;
  const auto supervisor = TRY(attached.client(ps::Protocol::name, ps::Protocol::version));
  const std::vector<ListedServer> servers = TRY(list_servers(*supervisor));
  const auto sandboxes = TRY(list_sandboxes(attached));
  if (!session.json) {
    print_status(session, instance, servers, sandboxes);
    return exit_done;
  }
  json out = {{"socket", session.socket},
              {"pid", instance.pid},
              {"uptime_ns", age_ns(instance.started_ns)},
              {"supervisor_restarts", instance.supervisor_restarts},
              {"processes", instance.processes},
              {"regions", instance.regions},
              {"region_bytes", instance.region_bytes},
              {"links", instance.links},
              {"user_namespaces", instance.user_namespaces != 0},
              {"pidfd_of_peers", instance.pidfd_of_peers != 0},
              {"uid", instance.uid},
              {"open_to_users", instance.open_to_users != 0},
              {"servers", json::array()}};
  for (const ListedServer& server : servers)
    out["servers"].push_back(server_json(server, sandbox_text(sandboxes, server.process_id)));
  print_json(out);
  return exit_done;
}

void add_run(CLI::App& app, Session& session) {
  CLI::App* run = app.add_subcommand("run", "Run a program as a job of its own");
  auto options = std::make_shared<RunOptions>();
  run->add_option("--job", options->job, "The job's name [run-PID]")
      ->check(command_line::names_something());
  run->add_option("--memory", options->memory,
                  "Memory it may have, such as 512M: shared, and as much of its own")
      ->check(command_line::names_something());
  run->add_option("--cpus", options->cpus, "Cores it may use, such as 1.5")
      ->check(command_line::names_something());
  run->add_option("--processes", options->processes,
                  "Processes and threads it may have, aiosctl's own among them")
      ->transform(command_line::at_least(2u));
  CLI::Option* sandbox =
      run->add_flag("--sandbox{tool}", options->sandbox,
                    "Lock it in: it sees the system's programs, its own file, a /tmp of its own "
                    "and AIOS; no other file, process or network of this machine, and of the "
                    "environment what is below. With --sandbox=streaming not even AIOS, as mappers "
                    "and reducers")
          ->check(CLI::IsMember({"tool", "streaming"}));
  run->add_option("--read", options->read, "With --sandbox: a file or folder it may read, too")
      ->needs(sandbox)
      ->type_name("PATH");
  run->add_option("--write", options->write, "With --sandbox: a file or folder it may change, too")
      ->needs(sandbox)
      ->type_name("PATH");
  run->add_option("--env", options->environment,
                  "With --sandbox: a variable of the environment that it gets, too, or one for it")
      ->needs(sandbox)
      ->type_name("NAME[=VALUE]")
      ->allow_extra_args(false);
  run->footer(fmt::format("Of the environment a program in a sandbox gets {}, and what --env says.",
                          fmt::join(shown_variables, ", ")));
  run->add_flag("--strict", options->strict,
                "Do not run it where a limit or a protection of the sandbox cannot be enforced");
  run->add_option("program", options->command, "Program and arguments, after --")->required();
  run->positionals_at_end();
  run->callback([&session, options] {
    session.action = [&session, options] {
      return run_command([&] { return run_program(session, *options); });
    };
  });
}

}  // namespace

void add_instance_commands(CLI::App& app, Session& session) {
  CLI::App* boot_command = app.add_subcommand("boot", "Start AIOS and stay until Ctrl-C");
  auto options = std::make_shared<BootOptions>();
  boot_command
      ->add_option("--manifest", options->manifest,
                   "Which servers to run [STATE/aios.toml, else the one that comes along]")
      ->check(command_line::names_something());
  boot_command->add_flag("--detach", options->detach, "Return once it is up, leave it running");
  CLI::Option* of_system = boot_command->add_flag(
      "--system", options->system,
      "An instance for all users: state in /var/lib/aios, socket /run/aios/aios.sock");
  boot_command->add_option("--group", options->group, "Who may use it [aios, else root alone]")
      ->check(command_line::names_something())
      ->needs(of_system);
  boot_command->callback([&session, options] {
    session.boots = true;
    session.of_system = options->system;
    session.action = [&session, options] {
      return run_command([&] { return boot(session, *options); });
    };
  });

  CLI::App* shutdown_command = app.add_subcommand("shutdown", "Stop the instance in order");
  shutdown_command->callback([&session] {
    session.action = [&session] { return run_command([&] { return shut_down(session); }); };
  });

  CLI::App* status = app.add_subcommand("status", "The instance and its servers");
  status->add_flag("--json", session.json, "As JSON (abi/schema/status.json)");
  status->callback([&session] {
    session.action = [&session] { return run_command([&] { return show_status(session); }); };
  });

  add_run(app, session);
}

}  // namespace aios::ctl
