// aiosctl devices and tasks: what the scheduler knows.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "abi/proto/scheduler.hpp"
#include "tools/aiosctl/operator.hpp"
#include "tools/aiosctl/output.hpp"

namespace aios::ctl {

namespace {

namespace wire = proto::scheduler;
using nlohmann::json;

constexpr std::size_t max_listed_tasks = 20'000;

Result<std::unique_ptr<Client>> scheduler_client(Operator& attached) {
  return attached.client("scheduler", wire::Protocol::version);
}

std::string_view health_name(std::uint32_t health) {
  constexpr std::string_view names[] = {"ok", "degraded", "failed"};
  return health < std::size(names) ? names[health] : "unknown";
}

std::string_view state_name(std::uint32_t state) {
  constexpr std::string_view names[] = {"waiting", "ready", "running", "done", "failed"};
  return state < std::size(names) ? names[state] : "unknown";
}

void print(const json& out) {
  print_json(out.dump(2, ' ', false, json::error_handler_t::replace));
}

/// not_found ends the list: there may be no device at all yet.
Result<std::vector<wire::DeviceNext::Reply>> list_devices(Client& scheduler) {
  std::vector<wire::DeviceNext::Reply> all;
  for (std::uint64_t index = 0;; ++index) {
    const auto next = scheduler.call<wire::DeviceNext>({index}, Deadline::after(call_timeout_ns));
    if (!next && next.error().code() == Code::not_found) return all;
    if (!next) return std::unexpected(next.error());
    all.push_back(*next);
    if (index + 1 >= next->device.count) return all;
  }
}

json to_json(std::size_t index, const wire::DeviceNext::Reply& d) {
  return {{"index", index},
          {"kind", d.device.kind.view()},
          {"backend", d.device.backend.view()},
          {"model", d.device.model.view()},
          {"uuid", d.device.uuid.view()},
          {"emulated", d.device.emulated != 0},
          {"health", health_name(d.device.health)},
          {"cores", d.device.cores},
          {"threads", d.device.threads},
          {"numa_nodes", d.device.numa_nodes},
          {"memory_bytes", d.device.memory_bytes},
          {"cache_bytes", d.device.cache_bytes},
          {"contexts", d.device.contexts},
          {"context_restarts", d.device.context_restarts},
          {"tasks_done", d.tasks_done},
          {"tasks_failed", d.tasks_failed},
          {"busy_ns", d.busy_ns}};
}

Result<int> show_devices(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const auto scheduler = TRY(scheduler_client(attached));
  const auto devices = TRY(list_devices(*scheduler));
  json out = json::array();
  Table table({{"DEVICE"},
               {"BACKEND"},
               {"MODEL"},
               {"HEALTH"},
               {"THREADS", Align::right},
               {"MEMORY", Align::right},
               {"CONTEXTS", Align::right},
               {"RESTARTS", Align::right},
               {"DONE", Align::right},
               {"FAILED", Align::right},
               {"BUSY", Align::right}});
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const auto& d = devices[i];
    out.push_back(to_json(i, d));
    table.add({fmt::format("{}{}", d.device.kind.view(), i), std::string(d.device.backend.view()),
               std::string(d.device.model.view()), std::string(health_name(d.device.health)),
               std::to_string(d.device.threads), human_bytes(d.device.memory_bytes),
               std::to_string(d.device.contexts), std::to_string(d.device.context_restarts),
               std::to_string(d.tasks_done), std::to_string(d.tasks_failed),
               human_duration(d.busy_ns)});
  }
  session.json ? print(out) : table.print();
  return exit_done;
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
          {"end_ns", t.end_ns}};
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
  session.json ? print(out) : table.print();
  return exit_done;
}

void add_listing(CLI::App& app, Session& session, const char* name, const char* help,
                 Result<int> (*listing)(const Session&)) {
  CLI::App* command = app.add_subcommand(name, help);
  command->add_flag("--json", session.json, fmt::format("As JSON (abi/schema/{}.json)", name));
  command->callback([&session, listing] {
    session.action = [&session, listing] { return run_command([&] { return listing(session); }); };
  });
}

}  // namespace

void add_task_commands(CLI::App& app, Session& session) {
  add_listing(app, session, "devices", "What tasks run on", show_devices);
  add_listing(app, session, "tasks", "Unfinished tasks and the last 1,024 finished ones",
              show_tasks);
}

}  // namespace aios::ctl
