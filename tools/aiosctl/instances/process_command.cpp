// aiosctl ps, regions, links, kill, logs, crash and restart.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "abi/proto/scheduler.hpp"
#include "abi/proto/supervisor.hpp"
#include "abi/runtime/command_line.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/listings.hpp"
#include "tools/aiosctl/common/log_tail.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/instances/program_signals.hpp"
#include "tools/aiosctl/watch/process_use.hpp"

namespace aios::ctl {

namespace {

namespace pk = proto::kernel;
namespace ps = proto::supervisor;
using nlohmann::json;

/// Its end in order, its start, and the retries of one that does not come up.
constexpr std::uint64_t restart_timeout_ns = 60 * ns_per_s;

/// The kernel knows servers by name; of a program from outside, Linux knows the command.
pk::Name name_of(const pk::ProcessRecord& program) {
  std::ifstream comm("/proc/" + std::to_string(program.pid) + "/comm");
  std::string command;
  return std::getline(comm, command) && !command.empty() ? pk::Name::from(command) : program.name;
}

struct Living {
  std::vector<pk::ProcessRecord> processes;
  bool same_pids;  ///< what Linux says here of a pid is said of the instance's process
};

Result<Living> list_living(Operator& attached) {
  auto all = TRY(list_processes(attached));
  const bool same_pids = check_namespace(attached.kernel()).has_value();
  for (pk::ProcessRecord& record : all)
    if (same_pids && record.outside != 0) record.name = name_of(record);
  return Living{std::move(all), same_pids};
}

/// The kernel of AIOS does not know which processes stand still (decision 0201): Linux does.
std::string_view state_of(const pk::ProcessRecord& record) {
  switch (state_of_process(static_cast<pid_t>(record.pid))) {
    case '\0':
      return "unknown";
    case 'T':
      return "suspended";
    case 'Z':
    case 'X':
      return "ended";
    default:
      return "runs";
  }
}

std::string_view kind_of(const pk::ProcessRecord& record) {
  if (record.outside != 0) return "program";
  return record.job_name.view() == proto::kernel::contexts_job ? "context" : "server";
}

std::uint64_t restarts_of(const pk::ProcessRecord& record) {
  return record.outside != 0 || record.epoch == 0 ? 0 : record.epoch - 1;
}

Result<int> show_processes(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const Living living = TRY(list_living(attached));
  json out = json::array();
  Table table({{"ID", Align::right},
               {"PID", Align::right},
               {"NAME"},
               {"KIND"},
               {"JOB"},
               {"STATE"},
               {"RESTARTS", Align::right},
               {"MEMORY", Align::right},
               {"REGIONS", Align::right},
               {"UPTIME", Align::right}});
  for (const pk::ProcessRecord& p : living.processes) {
    const std::string name(p.name.view());
    const std::string_view state = living.same_pids ? state_of(p) : "unknown";
    const std::uint64_t memory_bytes =
        living.same_pids ? use_of_process(static_cast<pid_t>(p.pid)).resident_bytes : 0;
    const std::uint64_t uptime_ns = now_ns() - p.started_ns;
    out.push_back({{"process_id", p.process_id},
                   {"pid", p.pid},
                   {"name", name},
                   {"kind", kind_of(p)},
                   {"job", p.job_name.view()},
                   {"job_id", p.job_id},
                   {"state", state},
                   {"epoch", p.epoch},
                   {"restarts", restarts_of(p)},
                   {"memory_bytes", memory_bytes},
                   {"region_bytes", p.region_bytes},
                   {"handles", p.handles},
                   {"links", p.links},
                   {"uptime_ns", uptime_ns},
                   {"uid", p.uid},
                   {"namespaces", p.namespaces != 0}});
    table.add({std::to_string(p.process_id), std::to_string(p.pid), name, std::string(kind_of(p)),
               std::string(p.job_name.view()), std::string(state), std::to_string(restarts_of(p)),
               human_bytes(memory_bytes), human_bytes(p.region_bytes), human_duration(uptime_ns)});
  }
  session.json ? print_json(out) : table.print();
  return exit_done;
}

Result<int> show_regions(const Session& session) {
  static constexpr std::string_view kinds[] = {"none", "data", "control", "frozen"};
  Operator attached = TRY(Operator::attach(session));
  const auto regions = TRY(list_all<pk::RegionNext>(
      attached, [](const pk::RegionNext::Reply& region) { return region.region_id; }));
  json out = json::array();
  Table table({{"ID", Align::right},
               {"SIZE", Align::right},
               {"KIND"},
               {"NAME"},
               {"JOB"},
               {"HANDLES", Align::right}});
  for (const pk::RegionNext::Reply& r : regions) {
    const std::string_view kind = r.kind < std::size(kinds) ? kinds[r.kind] : "unknown";
    out.push_back({{"region_id", r.region_id},
                   {"size_bytes", r.size_bytes},
                   {"kind", kind},
                   {"name", r.name.view()},
                   {"job", r.job_name.view()},
                   {"job_id", r.job_id},
                   {"handles", r.handles}});
    table.add({std::to_string(r.region_id), human_bytes(r.size_bytes), std::string(kind),
               std::string(r.name.view()), std::string(r.job_name.view()),
               std::to_string(r.handles)});
  }
  session.json ? print_json(out) : table.print();
  return exit_done;
}

Result<int> show_links(const Session& session) {
  static constexpr std::string_view states[] = {"connecting", "waiting", "accepted", "open",
                                                "closed"};
  Operator attached = TRY(Operator::attach(session));
  const auto links = TRY(list_all<pk::LinkNext>(
      attached, [](const pk::LinkNext::Reply& link) { return link.link_id; }));
  json out = json::array();
  Table table({{"ID", Align::right},
               {"PORT"},
               {"CLIENT"},
               {"SERVER"},
               {"STATE"},
               {"TO SERVER", Align::right},
               {"TO CLIENT", Align::right}});
  for (const pk::LinkNext::Reply& l : links) {
    const std::string_view state = l.state < std::size(states) ? states[l.state] : "unknown";
    out.push_back({{"link_id", l.link_id},
                   {"port", l.port_name.view()},
                   {"client", l.client_name.view()},
                   {"client_process_id", l.client_process_id},
                   {"server", l.server_name.view()},
                   {"server_process_id", l.server_process_id},
                   {"state", state},
                   {"slots_to_server", l.sent_slots[0]},
                   {"slots_to_client", l.sent_slots[1]}});
    table.add({std::to_string(l.link_id), std::string(l.port_name.view()),
               fmt::format("{} ({})", l.client_name.view(), l.client_process_id),
               l.server_process_id == 0
                   ? "-"
                   : fmt::format("{} ({})", l.server_name.view(), l.server_process_id),
               std::string(state), std::to_string(l.sent_slots[0]),
               std::to_string(l.sent_slots[1])});
  }
  session.json ? print_json(out) : table.print();
  return exit_done;
}

/// The one process that `text` names: by name, process id or pid.
Result<pk::ProcessRecord> find_process(Operator& attached, const std::string& text) {
  const Living living = TRY(list_living(attached));
  std::vector<pk::ProcessRecord> found;
  std::string listed;
  for (const pk::ProcessRecord& p : living.processes) {
    const std::string_view name = p.name.view();
    if (name != text && std::to_string(p.process_id) != text && std::to_string(p.pid) != text)
      continue;
    found.push_back(p);
    listed +=
        fmt::format("{}{} (id {}, pid {})", listed.empty() ? "" : ", ", name, p.process_id, p.pid);
  }
  if (found.empty())
    return error(Code::not_found, "no process of this instance is called '" + text +
                                      "' or has that id; aiosctl ps lists them");
  if (found.size() > 1)
    return error(Code::invalid_argument,
                 "'" + text + "' may mean " + listed + "; name one by a number that is its alone");
  return found[0];
}

Result<void> send_signal(Operator& attached, const pk::ProcessRecord& process, int number) {
  Kernel& kernel = attached.kernel();
  const Handle handle =
      TRY(kernel.call<pk::ProcessOpen>({scope_of(attached), process.process_id})).reply.process;
  const auto sent = kernel.call<pk::ProcessSignal>({handle, static_cast<std::uint32_t>(number), 0});
  kernel.close(handle);
  if (!sent) return std::unexpected(sent.error());
  return {};
}

Result<int> kill_process(const Session& session, const std::string& text) {
  Operator attached = TRY(Operator::attach(session));
  const pk::ProcessRecord process = TRY(find_process(attached, text));
  TRY(send_signal(attached, process, SIGKILL));
  print_to(stdout, "killed {} (id {}, pid {})\n", printable(process.name.view()),
           process.process_id, process.pid);
  return exit_done;
}

/// The scheduler is told first: until the context goes on nothing is expected of it, and no time
/// limit counts.
Result<void> announce(Operator& attached, const pk::ProcessRecord& process, bool suspended) {
  const auto scheduler =
      TRY(attached.client(proto::scheduler::Protocol::name, proto::scheduler::Protocol::version));
  TRY(scheduler->call<proto::scheduler::Suspend>({process.process_id, suspended ? 1u : 0u},
                                                 Deadline::after(call_timeout_ns)));
  return {};
}

void print_done(const char* what, const pk::ProcessRecord& process, std::size_t processes) {
  print_to(stdout, "{} {} (id {}, pid {}{}\n", what, printable(process.name.view()),
           process.process_id, process.pid,
           processes > 1 ? fmt::format("), and the {} it has started", processes - 1) : ")");
}

Result<int> suspend_process(const Session& session, const std::string& text) {
  Operator attached = TRY(Operator::attach(session));
  const pk::ProcessRecord process = TRY(find_process(attached, text));
  if (kind_of(process) == "server")
    return error(Code::not_supported,
                 "a server that is suspended is taken for hung, and started "
                 "anew; to see that: aiosctl crash --how hang");
  std::size_t processes = 1;
  if (process.outside != 0) {
    processes = TRY(signal_program(attached, process, SIGSTOP));
  } else {
    TRY(announce(attached, process, true));
    TRY(send_signal(attached, process, SIGSTOP));
  }
  print_done("suspended", process, processes);
  return exit_done;
}

Result<int> resume_process(const Session& session, const std::string& text) {
  Operator attached = TRY(Operator::attach(session));
  const pk::ProcessRecord process = TRY(find_process(attached, text));
  std::size_t processes = 1;
  if (process.outside != 0) {
    processes = TRY(signal_program(attached, process, SIGCONT));
  } else {
    TRY(send_signal(attached, process, SIGCONT));
    if (kind_of(process) == "context") TRY(announce(attached, process, false));
  }
  print_done("resumed", process, processes);
  return exit_done;
}

Result<int> crash_server(const Session& session, const std::string& server,
                         const std::string& how) {
  static constexpr std::string_view done[] = {"killed", "aborted", "stopped"};
  static constexpr int signals[] = {SIGKILL, SIGABRT, SIGSTOP};
  const auto index = static_cast<std::uint32_t>(how == "kill"    ? ps::CrashHow::kill
                                                : how == "abort" ? ps::CrashHow::abort
                                                                 : ps::CrashHow::hang);
  Operator attached = TRY(Operator::attach(session));
  if (!pk::Name::fits(server)) return error(Code::not_found, "no server has so long a name");
  std::uint64_t pid = 0;
  if (server == ps::Protocol::name) {
    // The supervisor cannot be asked to answer for its own end.
    const pk::ProcessRecord process = TRY(find_process(attached, server));
    TRY(send_signal(attached, process, signals[index]));
    pid = process.pid;
  } else {
    const std::unique_ptr<Client> supervisor =
        TRY(attached.client(ps::Protocol::name, ps::Protocol::version));
    pid = TRY(supervisor->call<ps::Crash>({pk::Name::from(server), index, 0},
                                          Deadline::after(call_timeout_ns)))
              .pid;
  }
  print_to(stdout, "{} {} (pid {})\n", done[index], server, pid);
  return exit_done;
}

Result<int> restart_server(const Session& session, const std::string& server) {
  Operator attached = TRY(Operator::attach(session));
  if (!pk::Name::fits(server)) return error(Code::not_found, "no server has so long a name");
  const std::unique_ptr<Client> supervisor =
      TRY(attached.client(ps::Protocol::name, ps::Protocol::version));
  const auto reply = TRY(
      supervisor->call<ps::Restart>({pk::Name::from(server)}, Deadline::after(restart_timeout_ns)));
  print_to(stdout, "{} runs as pid {}\n", server, reply.pid);
  return exit_done;
}

struct LogOptions {
  std::string server;
  std::size_t lines = 50;
  bool follow = false;
};

Result<int> show_log(const Session& session, const LogOptions& options) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  std::error_code failure;
  for (const fs::directory_entry& entry : fs::directory_iterator(session.state + "/logs", failure))
    if (entry.path().extension() == ".log") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  if (std::find(names.begin(), names.end(), options.server) == names.end())
    return error(Code::not_found,
                 fmt::format("{}/logs has no log of '{}'{}{}", session.state, options.server,
                             names.empty() ? "" : "; there is ", fmt::join(names, ", ")));
  const std::string path = log_path(session.state, options.server);
  const std::uint64_t size = log_size(path);
  const std::string tail = TRY(log_tail(path, options.lines));
  std::fwrite(tail.data(), 1, tail.size(), stdout);
  if (options.follow) TRY(log_follow(path, size));
  return exit_done;
}

using Listing = Result<int> (*)(const Session&);

void add_listing(CLI::App& app, Session& session, const char* name, const char* help,
                 Listing listing) {
  CLI::App* command = app.add_subcommand(name, help);
  command->add_flag("--json", session.json, fmt::format("As JSON (abi/schema/{}.json)", name));
  command->callback([&session, listing] {
    session.action = [&session, listing] { return run_command([&] { return listing(session); }); };
  });
}

CLI::App* add_on_process(CLI::App& app, Session& session, const char* name, const char* help,
                         Result<int> (*what)(const Session&, const std::string&)) {
  CLI::App* command = app.add_subcommand(name, help);
  auto process = std::make_shared<std::string>();
  command->add_option("process", *process, "Its name, id or pid")->required();
  command->callback([&session, what, process] {
    session.action = [&session, what, process] {
      return run_command([&] { return what(session, *process); });
    };
  });
  return command;
}

void add_crash(CLI::App& app, Session& session) {
  struct CrashOptions {
    std::string server;
    std::string how = "kill";
  };
  CLI::App* crash = app.add_subcommand("crash", "Harm a server on purpose, to see it come back");
  auto options = std::make_shared<CrashOptions>();
  crash->add_option("server", options->server, "Its name, as aiosctl status lists it")->required();
  crash
      ->add_option("--how", options->how,
                   "kill: end it at once; abort: have it fail as by a bug; hang: stop it, as if it "
                   "looped for ever [kill]")
      ->check(CLI::IsMember({"kill", "abort", "hang"}));
  crash->callback([&session, options] {
    session.action = [&session, options] {
      return run_command([&] { return crash_server(session, options->server, options->how); });
    };
  });
}

}  // namespace

void add_process_commands(CLI::App& app, Session& session) {
  add_listing(app, session, "ps", "Servers, contexts and attached programs", show_processes);
  add_listing(app, session, "regions", "Shared memory", show_regions);
  add_listing(app, session, "links", "Connections between processes", show_links);

  add_on_process(app, session, "kill", "Kill a process of the instance", kill_process);
  add_on_process(app, session, "suspend", "Stop a context or a program, until it is resumed",
                 suspend_process)
      ->footer(
          "A context: one that `aiosctl ps` lists as such; its tasks stand still, and so do their "
          "time limits.\nA program: one that has attached, such as `aiosctl run`, and all that it "
          "has "
          "started. Its tasks\ngo on: suspend its contexts, too.\nA server cannot be suspended: it "
          "would be taken for hung.");
  add_on_process(app, session, "resume", "Let a suspended process go on", resume_process);

  CLI::App* logs = app.add_subcommand("logs", "What a server has logged");
  auto options = std::make_shared<LogOptions>();
  logs->add_option("server", options->server, "Its name, as aiosctl status lists it; or kernel")
      ->required();
  logs->add_option("-n,--lines", options->lines, "How many of the last lines [50]")
      ->transform(command_line::at_least(std::size_t{0}));
  logs->footer(
      "A line begins with its time in UTC, and the seconds since the machine started, by which\n"
      "`aiosctl tasks --json` and traces count.");
  logs->add_flag("-f,--follow", options->follow, "Go on as lines come, until Ctrl-C");
  logs->callback([&session, options] {
    session.action = [&session, options] {
      return run_command([&] { return show_log(session, *options); });
    };
  });

  add_crash(app, session);

  CLI::App* restart =
      app.add_subcommand("restart", "End a server and start it anew, or revive one that is down");
  auto server = std::make_shared<std::string>();
  restart->add_option("server", *server, "Its name in the manifest")->required();
  restart->callback([&session, server] {
    session.action = [&session, server] {
      return run_command([&] { return restart_server(session, *server); });
    };
  });
}

}  // namespace aios::ctl
