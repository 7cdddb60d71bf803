#include "tools/aiosctl/graphs/graph_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/graphs/graph_record.hpp"

namespace aios::ctl {

namespace {

using nlohmann::json;

std::string text_of(const json& document) {
  return document.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

struct Sums {
  std::size_t failed = 0;
  double compute_s = 0;
  std::optional<double> predicted_s{};
  std::size_t unpredicted = 0;
  std::map<std::string, std::size_t> devices{};
};

Sums sums_of(const PartitionReport& report) {
  Sums sums;
  for (const TaskReport& task : report.tasks) {
    sums.failed += task.done.status != 0;
    sums.compute_s += static_cast<double>(task.run_ns()) / 1e9;
    if (task.predicted_s)
      sums.predicted_s = sums.predicted_s.value_or(0) + *task.predicted_s;
    else
      ++sums.unpredicted;
    if (!task.device.empty()) ++sums.devices[task.device];
  }
  return sums;
}

json to_json(std::size_t number, const PartitionReport& report) {
  const Sums sums = sums_of(report);
  json error;
  if (report.failure)
    error = {{"code", code_name(report.failure->code())}, {"text", report.failure->message()}};
  return {{"number", number},
          {"input", report.input.empty() ? json() : json(report.input)},
          {"tasks", report.places.size()},
          {"failed", sums.failed},
          {"attempts", report.attempts},
          {"seconds", seconds_between(report.submitted_ns, report.ended_ns)},
          {"compute_s", sums.compute_s},
          {"predicted_s", sums.predicted_s ? json(*sums.predicted_s) : json()},
          {"unpredicted_tasks", sums.unpredicted},
          {"devices", sums.devices},
          {"outputs", report.outputs},
          {"skipped", report.skipped},
          {"error", error}};
}

json partitions_json(const GraphRun& run) {
  json all = json::array();
  for (std::size_t i = 0; i < run.partitions().size(); ++i)
    all.push_back(to_json(i, run.partitions()[i]));
  return all;
}

std::size_t skipped_inputs(const GraphRun& run) {
  return static_cast<std::size_t>(std::ranges::count_if(
      run.partitions(), [](const PartitionReport& report) { return report.skipped; }));
}

std::size_t failed_tasks(const GraphRun& run) {
  std::size_t failed = 0;
  for (const PartitionReport& report : run.partitions()) failed += sums_of(report).failed;
  return failed;
}

/// A task's name; in a template with the number of its input, for there is one of each.
std::string name_of(const GraphSource& source, std::size_t partition, std::uint32_t place) {
  const std::string& name = source.graph().tasks[place].name;
  return source.input() ? fmt::format("{:05}/{}", partition, name) : name;
}

template <class Visit>
void for_each_task(const GraphSource& source, const GraphRun& run, Visit&& visit) {
  for (std::size_t number = 0; number < run.partitions().size(); ++number) {
    const PartitionReport& report = run.partitions()[number];
    for (std::size_t i = 0; i < report.tasks.size(); ++i)
      visit(number, report, report.tasks[i], name_of(source, number, report.places[i]),
            source.graph().codelets[report.tasks[i].codelet].name);
  }
}

void print_tasks(const GraphSource& source, const GraphRun& run) {
  Table table({{"TASK"},
               {"CODELET"},
               {"STATUS"},
               {"DEVICE"},
               {"BEGAN", Align::right},
               {"RUN", Align::right},
               {"PREDICTED", Align::right}});
  for_each_task(
      source, run,
      [&](std::size_t, const PartitionReport&, const TaskReport& task, const std::string& name,
          const std::string& codelet) {
        const std::string status(code_name(static_cast<Code>(task.done.status)));
        const bool ran = task.done.start_ns != 0;
        table.add({name, codelet, task.why.empty() ? status : status + ": " + task.why, task.device,
                   ran ? human_duration(task.done.start_ns - run.submitted_ns()) : "",
                   ran ? human_duration(task.run_ns()) : "",
                   task.predicted_s
                       ? human_duration(static_cast<std::uint64_t>(*task.predicted_s * 1e9))
                       : ""});
      });
  table.print();
}

void print_partitions(const GraphRun& run) {
  Table table({{"INPUT"},
               {"STATUS"},
               {"DEVICES"},
               {"TASKS", Align::right},
               {"TOOK", Align::right},
               {"RUN", Align::right},
               {"PREDICTED", Align::right}});
  for (const PartitionReport& report : run.partitions()) {
    if (!report.begun()) continue;
    const Sums sums = sums_of(report);
    std::string devices;
    for (const auto& [name, count] : sums.devices)
      devices += fmt::format("{}{} {}", devices.empty() ? "" : ", ", name, count);
    const auto seconds = [](double s) {
      return human_duration(static_cast<std::uint64_t>(std::max(s, 0.0) * 1e9));
    };
    table.add({report.input,
               report.failure ? (report.skipped ? "skipped: " : "") +
                                    std::string(code_name(report.failure->code())) + ": " +
                                    report.failure->message()
                              : "ok",
               devices, std::to_string(report.tasks.size()),
               seconds(seconds_between(report.submitted_ns, report.ended_ns)),
               seconds(sums.compute_s), sums.predicted_s ? seconds(*sums.predicted_s) : "?"});
  }
  table.print();
}

}  // namespace

double seconds_between(std::uint64_t from_ns, std::uint64_t to_ns) {
  return (static_cast<double>(to_ns) - static_cast<double>(from_ns)) / 1e9;
}

json to_json(const GraphRun::Admitted& a) {
  constexpr std::string_view promises[] = {"made", "unknown_costs", "no_policy"};
  constexpr std::string_view verdicts[] = {"accepted", "too_late", "harms_others", "withdrawn"};
  const auto name = [](std::span<const std::string_view> names, std::uint32_t number) {
    return number < names.size() ? names[number] : "unknown";
  };
  const auto from_then = [&](std::uint64_t at_ns) {
    return at_ns == 0 ? json() : json(seconds_between(a.now_ns, at_ns));
  };
  return {{"verdict", name(verdicts, a.verdict)},
          {"promise", name(promises, a.promise)},
          {"deadline_s", from_then(a.deadline_ns)},
          {"predicted_s", from_then(a.finish_ns)},
          {"predicted_p95_s", from_then(a.finish_p95_ns)},
          {"anywhere_p95_s", from_then(a.anywhere_p95_ns)},
          {"cheaper_p95_s", from_then(a.cheaper_p95_ns)},
          {"cheaper_tasks", a.cheaper_tasks},
          {"tasks", a.tasks},
          {"unknown_tasks", a.unknown}};
}

json to_json(const GraphSource& source, const GraphRun& run) {
  json tasks = json::array();
  for_each_task(
      source, run,
      [&](std::size_t number, const PartitionReport&, const TaskReport& task,
          const std::string& name, const std::string& codelet) {
        tasks.push_back(
            {{"name", name},
             {"partition", number},
             {"codelet", codelet},
             {"status", code_name(static_cast<Code>(task.done.status))},
             {"why", task.why},
             {"device", task.device.empty() ? json() : json(task.device)},
             {"attempts", task.done.attempts},
             {"began_s", task.done.start_ns == 0
                             ? json(nullptr)
                             : json(seconds_between(run.submitted_ns(), task.done.start_ns))},
             {"run_s", static_cast<double>(task.run_ns()) / 1e9},
             {"predicted_s", task.predicted_s ? json(*task.predicted_s) : json()}});
      });
  return {{"actual_s", seconds_between(run.submitted_ns(), ended_ns(run))},
          {"failed", failed_tasks(run)},
          {"skipped", skipped_inputs(run)},
          {"partitions", partitions_json(run)},
          {"tasks", tasks}};
}

void print_report(const GraphSource& source, const GraphRun& run, const std::string& in_time) {
  if (source.input())
    print_partitions(run);
  else
    print_tasks(source, run);
  std::size_t tasks = 0, begun = 0;
  for (const PartitionReport& report : run.partitions()) {
    tasks += report.tasks.size();
    begun += report.begun();
  }
  const std::size_t all = run.partitions().size();
  const std::size_t skipped = skipped_inputs(run);
  const std::size_t failed = failed_tasks(run);
  const std::uint64_t took_ns = ended_ns(run) - run.submitted_ns();
  const std::string ended = took_ns == 0      ? ", none has run"
                            : failed == tasks ? ", ended after " + human_duration(took_ns)
                                              : ", done in " + human_duration(took_ns);
  print_to(stdout, "{} tasks, {} failed{}{}; {}{}{}\n", tasks, failed, ended, in_time,
           all == 1 ? "one partition" : fmt::format("{} partitions", all),
           begun == all ? "" : fmt::format(", {} of them not begun", all - begun),
           skipped == 0 ? "" : fmt::format(", {} skipped for their inputs", skipped));
}

std::optional<Status> failure_of(const GraphRun& run) {
  for (const PartitionReport& report : run.partitions())
    if (report.failure && !report.skipped)
      return Status(report.failure->code(),
                    (report.input.empty() ? "" : report.input + ": ") + report.failure->message());
  return std::nullopt;
}

std::uint64_t ended_ns(const GraphRun& run) {
  std::uint64_t last = run.submitted_ns();
  for (const PartitionReport& report : run.partitions()) last = std::max(last, report.ended_ns);
  return last;
}

std::string manifest_of(const std::string& graph, const GraphRun& run,
                        const mapreduce_client::OutputFolder& output) {
  json partitions = json::array(), parts = json::array();
  for (std::size_t i = 0; i < run.partitions().size(); ++i)
    partitions.push_back(to_json(i, run.partitions()[i]));
  for (const auto& file : output.written())
    parts.push_back(json{{"name", file.name}, {"bytes", file.bytes}, {"xxh3", file.xxh3}});
  const json document{{"graph", graph},
                      {"skipped", skipped_inputs(run)},
                      {"partitions", partitions},
                      {"parts", parts}};
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

Result<void> record_run(LateFile& to, const GraphSource& source, const GraphRun& run) {
  json specified = json::array();
  json executed = json::array();
  std::optional<std::string> failed;
  const RecordIds ids(source, run);
  for_each_task(
      source, run,
      [&](std::size_t number, const PartitionReport& report, const TaskReport& task,
          const std::string& name, const std::string& codelet) {
        if (report.skipped) return;
        if (task.done.status != 0) failed = name;
        const auto at = static_cast<std::size_t>(&task - report.tasks.data());
        specified.push_back({{"id", ids.of(number, at)},
                             {"name", codelet},
                             {"parents", ids.parents_of(number, at)},
                             {"children", ids.children_of(number, at)}});
        executed.push_back({{"id", ids.of(number, at)},
                            {"runtimeInSeconds", static_cast<double>(task.run_ns()) / 1e9},
                            {"memoryInBytes", task.done.peak_memory_bytes},
                            {"command", {{"program", codelet}}}});
        record_place(source, run, report, task, executed.back());
      });
  if (failed || failure_of(run))
    return error(Code::invalid_argument,
                 failed.value_or("something") + " failed: a run that is not whole is not recorded");
  json execution{
      {"makespanInSeconds", seconds_between(run.submitted_ns(), ended_ns(run))},
      {"executedAt", executed_at(run)},
      {"aios",
       {{"preparationInSeconds", preparation_s(run)}, {"unplacedTasks", unplaced_tasks(run)}}},
      {"tasks", std::move(executed)}};
  // WfFormat knows no empty list of them.
  if (json machines = recorded_machines(source, run); !machines.empty())
    execution["machines"] = std::move(machines);
  const json out{{"name", source.graph().tasks.front().name},
                 {"schemaVersion", "1.5"},
                 {"runtimeSystem", {{"name", "AIOS"}, {"version", AIOS_VERSION}}},
                 {"workflow",
                  {{"specification", {{"tasks", std::move(specified)}, {"files", json::array()}}},
                   {"execution", std::move(execution)}}}};
  return to.write(text_of(out));
}

}  // namespace aios::ctl
