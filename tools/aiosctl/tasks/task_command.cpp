// aiosctl tasks: what the scheduler has run.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "abi/proto/scheduler.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

namespace wire = proto::scheduler;
using nlohmann::json;

constexpr std::size_t max_listed_tasks = 20'000;

Result<std::unique_ptr<Client>> scheduler_client(Operator& attached) {
  return attached.client("scheduler", wire::Protocol::version);
}

std::string_view state_name(std::uint32_t state) {
  constexpr std::string_view names[] = {"waiting", "ready", "running", "done", "failed"};
  return state < std::size(names) ? names[state] : "unknown";
}

/// The time on its device; 0 while it has none.
std::uint64_t run_ns(const wire::TaskNext::Reply& task) {
  return task.end_ns > task.start_ns ? task.end_ns - task.start_ns : 0;
}

json to_json(const wire::TaskNext::Reply& t) {
  return {{"number", t.number},
          {"tag", t.tag},
          {"job", t.job_name.view()},
          {"job_id", t.job_id},
          {"codelet", t.codelet.view()},
          {"device", t.device.view()},
          {"state", state_name(t.state)},
          {"status", code_name(static_cast<Code>(t.status))},
          {"attempts", t.attempts},
          {"priority", t.priority},
          {"submitted_ns", t.submitted_ns},
          {"start_ns", t.start_ns},
          {"end_ns", t.end_ns},
          {"transfer_ns", t.transfer_ns},
          {"predicted_transfer_ns", t.predicted_transfer_ns}};
}

Result<int> show_tasks(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const auto scheduler = TRY(scheduler_client(attached));
  json out = json::array();
  Table table({{"NUMBER", Align::right},
               {"JOB"},
               {"TAG", Align::right},
               {"CODELET"},
               {"STATE"},
               {"STATUS"},
               {"DEVICE"},
               {"ATTEMPTS", Align::right},
               {"PRIORITY", Align::right},
               {"RUN", Align::right}});
  std::uint64_t after = 0;
  for (std::size_t listed = 0; listed < max_listed_tasks; ++listed) {
    const auto t = TRY(scheduler->call<wire::TaskNext>({after}, Deadline::after(call_timeout_ns)));
    if (t.number == 0) break;
    after = t.number;
    out.push_back(to_json(t));
    table.add({std::to_string(t.number), std::string(t.job_name.view()), std::to_string(t.tag),
               std::string(t.codelet.view()), std::string(state_name(t.state)),
               t.status == 0 ? "" : std::string(code_name(static_cast<Code>(t.status))),
               std::string(t.device.view()), std::to_string(t.attempts), std::to_string(t.priority),
               run_ns(t) == 0 ? "" : human_duration(run_ns(t))});
  }
  session.json ? print_json(out) : table.print();
  return exit_done;
}

}  // namespace

void add_task_commands(CLI::App& app, Session& session) {
  CLI::App* tasks =
      app.add_subcommand("tasks", "Unfinished tasks and the last 1,024 finished ones");
  tasks->add_flag("--json", session.json, "As JSON (abi/schema/tasks.json)");
  tasks->callback([&session] {
    session.action = [&session] { return run_command([&] { return show_tasks(session); }); };
  });
}

}  // namespace aios::ctl
