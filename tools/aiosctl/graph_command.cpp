// aiosctl graph run, list.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "abi/lib/module_file.hpp"
#include "abi/lib/task_client.hpp"
#include "abi/lib/task_graph.hpp"
#include "tools/aiosctl/graph_file.hpp"
#include "tools/aiosctl/operator.hpp"
#include "tools/aiosctl/output.hpp"

namespace aios::ctl {

namespace {

namespace wire = proto::scheduler;
using nlohmann::json;
using Admitted = wire::AdmitGraph::Reply;

constexpr std::size_t max_listed_graphs = 1000;

struct Options {
  std::string record;
  std::string file;
  std::optional<std::int64_t> deadline_ns;  ///< from when it is submitted
  bool allow_cheaper = false;
};

std::string_view promise_name(std::uint32_t promise) {
  constexpr std::string_view names[] = {"made", "unknown_costs", "no_policy"};
  return promise < std::size(names) ? names[promise] : "unknown";
}

std::string_view verdict_name(std::uint32_t verdict) {
  constexpr std::string_view names[] = {"accepted", "too_late", "harms_others", "withdrawn"};
  return verdict < std::size(names) ? names[verdict] : "unknown";
}

double seconds_between(std::uint64_t from_ns, std::uint64_t to_ns) {
  return (static_cast<double>(to_ns) - static_cast<double>(from_ns)) / 1e9;
}

/// What was answered, in seconds from when it was asked; null where nothing was predicted.
json to_json(const Admitted& a) {
  const auto from_then = [&](std::uint64_t at_ns) {
    return at_ns == 0 ? json() : json(seconds_between(a.now_ns, at_ns));
  };
  return {{"verdict", verdict_name(a.verdict)},
          {"promise", promise_name(a.promise)},
          {"deadline_s", from_then(a.deadline_ns)},
          {"predicted_s", from_then(a.finish_ns)},
          {"predicted_p95_s", from_then(a.finish_p95_ns)},
          {"anywhere_p95_s", from_then(a.anywhere_p95_ns)},
          {"cheaper_p95_s", from_then(a.cheaper_p95_ns)},
          {"cheaper_tasks", a.cheaper_tasks},
          {"tasks", a.tasks},
          {"unknown_tasks", a.unknown}};
}

/// A graph file at work: everything registered, then submitted, then awaited.
class Run {
 public:
  Run(Kernel& kernel, Handle port, const GraphFile& file)
      : file_(file), link_(kernel, nullptr, port), tenant_(link_) {}

  Result<void> set_up() {
    TRY(wait_for<void>(link_, [&](auto done) {
      tenant_.open(link_.kernel().job(), call_deadline(), std::move(done));
    }));
    for (const GraphFile::Codelet& codelet : file_.codelets) TRY(add_codelet(codelet));
    for (std::size_t i = 0; i < codelets_.size(); ++i)
      if (const auto cheaper = file_.codelets[i].cheaper)
        TRY(wait_for<void>(link_, [&](auto done) {
          tenant_.set_cheaper(codelets_[i], codelets_[*cheaper], call_deadline(), std::move(done));
        }));
    for (const GraphFile::Buffer& buffer : file_.buffers) TRY(add_buffer(buffer));
    TaskGraph graph;
    for (const GraphFile::Task& task : file_.tasks) TRY(add_task(graph, task));
    for (std::uint32_t i = 0; i < file_.tasks.size(); ++i)
      for (const std::uint32_t before : file_.tasks[i].after) TRY(graph.add_edge(before, i));
    plan_ = TRY(graph.plan(1));
    if (plan_.records.size() > wire::max_graph_tasks)
      return error(Code::quota, "a graph has at most 32,768 tasks here, joins among them");
    return {};
  }

  /// With a deadline: what was answered.
  Result<std::optional<Admitted>> submit(std::optional<std::uint64_t> due_ns) {
    std::uint32_t graph = 0;
    if (due_ns)
      graph = TRY(wait_for<std::uint32_t>(link_, [&](auto done) {
        tenant_.open_graph(*due_ns, call_deadline(), std::move(done));
      }));
    const std::span<const wire::TaskRecord> all(plan_.records);
    submitted_ns_ = now_ns();
    for (std::size_t at = 0; at < all.size(); at += wire::max_batch)
      TRY(wait_for<void>(link_, [&](auto done) {
        tenant_.submit(all.subspan(at, std::min<std::size_t>(wire::max_batch, all.size() - at)),
                       call_deadline(), std::move(done), false, graph);
      }));
    if (!due_ns) return std::optional<Admitted>();
    return std::optional(TRY(wait_for<Admitted>(link_, [&](auto done) {
      tenant_.admit_graph(graph, false, call_deadline(), std::move(done));
    })));
  }

  Result<void> wait() {
    std::size_t left = plan_.records.size();
    ended_.resize(left);
    while (left > 0) {
      const auto some = TRY(wait_for<TaskTenant::Completions>(link_, [&](auto done) {
        tenant_.completions(Deadline::never(), std::move(done),
                            static_cast<std::uint32_t>(std::min<std::size_t>(left, 64)));
      }));
      for (const wire::Completion& one : some) ended_[one.tag - 1] = one;
      left -= some.size();
    }
    return {};
  }

  /// The tasks that each waits for, by their places in the file.
  std::vector<std::set<std::size_t>> parents() const {
    std::map<std::size_t, std::size_t> task_at;
    for (std::size_t i = 0; i < plan_.position.size(); ++i) task_at[plan_.position[i]] = i;
    std::vector<std::set<std::size_t>> all(file_.tasks.size());
    for (std::size_t task = 0; task < all.size(); ++task) {
      std::vector<std::size_t> to_look_at{plan_.position[task]};
      while (!to_look_at.empty()) {
        const wire::TaskRecord& record = plan_.records[to_look_at.back()];
        to_look_at.pop_back();
        for (std::uint32_t i = 0; i < record.dependency_count; ++i) {
          const std::size_t before = record.dependencies[i] - 1;
          // A join stands for those on which it depends.
          if (const auto at = task_at.find(before); at != task_at.end())
            all[task].insert(at->second);
          else
            to_look_at.push_back(before);
        }
      }
    }
    return all;
  }
  std::uint64_t submitted_ns() const { return submitted_ns_; }
  const wire::Completion& of(std::size_t task) const { return ended_[plan_.position[task]]; }
  std::string failure(const wire::Completion& of) {
    if (of.status == 0) return {};
    const auto text = wait_for<std::string>(
        link_, [&](auto done) { tenant_.failure(of.tag, call_deadline(), std::move(done)); });
    return text ? *text : std::string(code_name(static_cast<Code>(of.status)));
  }

 private:
  static Deadline call_deadline() { return Deadline::after(call_timeout_ns); }

  Result<void> add_codelet(const GraphFile::Codelet& codelet) {
    const std::vector<std::byte> module = TRY(read_module_file(codelet.module));
    const Region region = TRY(module_region(link_.kernel(), module));
    codelets_.push_back(TRY(wait_for<std::uint32_t>(link_, [&](auto done) {
      tenant_.register_codelet(region.handle(), 0, module.size(), codelet.function,
                               codelet.function, backends_of(module), call_deadline(),
                               std::move(done), module_hash_of(module));
    })));
    return {};
  }
  Result<void> add_buffer(const GraphFile::Buffer& buffer) {
    memory_.push_back(TRY(Region::create(link_.kernel(), buffer.bytes, buffer.name)));
    buffers_.push_back(TRY(wait_for<std::uint32_t>(link_, [&](auto done) {
      tenant_.register_buffer(memory_.back().handle(), 0, buffer.bytes, true, call_deadline(),
                              std::move(done));
    })));
    return {};
  }
  Result<void> add_task(TaskGraph& graph, const GraphFile::Task& task) {
    wire::TaskRecord record = task.record;
    record.codelet = codelets_[record.codelet];
    for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
      constexpr std::uint32_t id_bits = 28;
      const std::uint32_t id = record.buffers[i] & ((1u << id_bits) - 1);
      record.buffers[i] = buffers_[id] | record.buffers[i] >> id_bits << id_bits;
    }
    const auto added = graph.add(record);
    if (!added) return error(added.error().code(), task.name + ": " + added.error().message());
    return {};
  }

  const GraphFile& file_;
  TaskLink link_;
  TaskTenant tenant_;
  std::vector<std::uint32_t> codelets_, buffers_;
  std::vector<Region> memory_;
  TaskGraph::Plan plan_;
  std::vector<wire::Completion> ended_;
  std::uint64_t submitted_ns_ = 0;
};

void print_answer(const Admitted& a) {
  const auto in = [&](std::uint64_t at_ns) {
    return human_duration(at_ns - std::min(at_ns, a.now_ns));
  };
  if (a.finish_ns == 0) {
    fmt::print("accepted without a promise: the scheduler's policy does not predict\n");
    return;
  }
  fmt::print(
      "accepted: predicted to finish in {}, with the margin that keeps 19 of 20 in time in {}; its "
      "deadline is in {}\n",
      in(a.finish_ns), in(a.finish_p95_ns), in(a.deadline_ns));
  if (a.cheaper_tasks > 0)
    fmt::print("{} of its {} tasks run in cheaper variants: otherwise it would be too late\n",
               a.cheaper_tasks, a.tasks);
  if (a.unknown > 0)
    fmt::print("no promise: nothing is known of {} of its {} tasks; this run teaches it\n",
               a.unknown, a.tasks);
}

/// The codelet that the task ran as.
const std::string& ran_as(const GraphFile& file, std::size_t task,
                          const std::optional<Admitted>& answer) {
  const wire::TaskRecord& record = file.tasks[task].record;
  const GraphFile::Codelet& codelet = file.codelets[record.codelet];
  const bool may = (record.flags & wire::task_flag::may_be_cheaper) != 0;
  if (!answer || answer->cheaper_tasks == 0 || !may || !codelet.cheaper) return codelet.name;
  return file.codelets[*codelet.cheaper].name;
}

int print_outcome(const Session& session, const GraphFile& file, Run& run,
                  const std::optional<Admitted>& answer) {
  json tasks = json::array();
  Table table({{"TASK"}, {"CODELET"}, {"STATUS"}, {"BEGAN", Align::right}, {"RUN", Align::right}});
  std::uint64_t last_ns = run.submitted_ns();
  std::size_t failed = 0;
  for (std::size_t i = 0; i < file.tasks.size(); ++i) {
    const wire::Completion& done = run.of(i);
    const std::string status(code_name(static_cast<Code>(done.status)));
    const std::string& codelet = ran_as(file, i, answer);
    const std::uint64_t run_ns = done.end_ns - std::min(done.end_ns, done.start_ns);
    const std::string why = run.failure(done);
    failed += done.status != 0;
    last_ns = std::max(last_ns, done.end_ns);
    tasks.push_back({{"name", file.tasks[i].name},
                     {"codelet", codelet},
                     {"status", status},
                     {"why", why},
                     {"attempts", done.attempts},
                     {"began_s", seconds_between(run.submitted_ns(), done.start_ns)},
                     {"run_s", static_cast<double>(run_ns) / 1e9}});
    table.add({file.tasks[i].name, codelet, why.empty() ? status : status + ": " + why,
               done.start_ns == 0 ? "" : human_duration(done.start_ns - run.submitted_ns()),
               done.start_ns == 0 ? "" : human_duration(run_ns)});
  }
  const bool late = answer && last_ns > answer->deadline_ns;
  if (session.json) {
    print_json(json{
        {"asked", answer ? to_json(*answer) : json()},
        {"actual_s", seconds_between(run.submitted_ns(), last_ns)},
        {"in_time", answer ? json(!late) : json()},
        {"failed", failed},
        {"tasks",
         tasks}}.dump(2, ' ', false, json::error_handler_t::replace));
  } else {
    table.print();
    fmt::print("{} tasks, {} failed, done in {}{}\n", file.tasks.size(), failed,
               human_duration(last_ns - run.submitted_ns()),
               !answer ? ""
               : late  ? ": after its deadline"
                       : ": before its deadline");
  }
  return failed > 0 || late ? exit_failed : exit_done;
}

/// What it did and how long that took, as WfFormat 1.5, for `aiosctl simulate --graph`.
Result<void> record_run(const std::string& path, const GraphFile& file, const Run& run,
                        const std::optional<Admitted>& answer) {
  json specified = json::array();
  json executed = json::array();
  const std::vector<std::set<std::size_t>> parents_of = run.parents();
  std::uint64_t last_ns = run.submitted_ns();
  for (std::size_t i = 0; i < file.tasks.size(); ++i) {
    const wire::Completion& done = run.of(i);
    if (done.status != 0)
      return error(Code::invalid_argument, "task " + file.tasks[i].name +
                                               " failed: a run that is not whole is not recorded");
    const std::string& name = file.tasks[i].name;
    const std::string& codelet = ran_as(file, i, answer);
    json parents = json::array();
    for (const std::size_t parent : parents_of[i]) parents.push_back(file.tasks[parent].name);
    specified.push_back({{"id", name}, {"name", codelet}, {"parents", parents}});
    executed.push_back({{"id", name},
                        {"runtimeInSeconds", seconds_between(done.start_ns, done.end_ns)},
                        {"memoryInBytes", done.peak_memory_bytes},
                        {"command", {{"program", codelet}}}});
    last_ns = std::max(last_ns, done.end_ns);
  }
  const json out{{"name", file.tasks.front().name},
                 {"schemaVersion", "1.5"},
                 {"runtimeSystem", {{"name", "AIOS"}, {"version", AIOS_VERSION}}},
                 {"workflow",
                  {{"specification", {{"tasks", specified}, {"files", json::array()}}},
                   {"execution",
                    {{"makespanInSeconds", seconds_between(run.submitted_ns(), last_ns)},
                     {"tasks", executed}}}}}};
  std::ofstream to(path);
  to << out.dump(1, ' ', false, json::error_handler_t::replace) << '\n';
  to.close();
  if (!to) return errno_error("write " + path, errno);
  return {};
}

Result<int> run_graph(const Session& session, const Options& options) {
  GraphFile file = TRY(read_graph_file(options.file));
  if (options.allow_cheaper)
    for (GraphFile::Task& task : file.tasks) task.record.flags |= wire::task_flag::may_be_cheaper;
  Operator attached = TRY(Operator::attach(session));
  Run run(attached.kernel(), TRY(attached.port("scheduler")), file);
  TRY(run.set_up());
  std::optional<std::uint64_t> due_ns;
  if (options.deadline_ns)
    due_ns = static_cast<std::uint64_t>(static_cast<std::int64_t>(now_ns()) + *options.deadline_ns);
  const std::optional<Admitted> answer = TRY(run.submit(due_ns));
  if (answer) {
    if (const Result<void> accepted = refusal_of(*answer); !accepted) {
      if (session.json) print_json(json{{"asked", to_json(*answer)}}.dump(2));
      const int code = report(accepted.error());
      if (answer->cheaper_p95_ns != 0 && !session.json)
        fmt::print(stderr, "aiosctl: to permit them: --allow-cheaper\n");
      return code;
    }
    if (!session.json) print_answer(*answer);
  }
  TRY(run.wait());
  if (!options.record.empty()) TRY(record_run(options.record, file, run, answer));
  return print_outcome(session, file, run, answer);
}

std::string_view state_name(std::uint32_t state) {
  constexpr std::string_view names[] = {"running", "done", "failed", "refused"};
  return state < std::size(names) ? names[state] : "unknown";
}

Result<int> list_graphs(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const auto scheduler = TRY(attached.client("scheduler", wire::Protocol::version));
  json out = json::array();
  Table table({{"NUMBER", Align::right},
               {"JOB"},
               {"TASKS", Align::right},
               {"STATE"},
               {"VERDICT"},
               {"DEADLINE", Align::right},
               {"PREDICTED", Align::right},
               {"P95", Align::right},
               {"ACTUAL", Align::right}});
  std::uint64_t after = 0;
  for (std::size_t listed = 0; listed < max_listed_graphs; ++listed) {
    const auto g = TRY(scheduler->call<wire::GraphNext>({after}, Deadline::after(call_timeout_ns)));
    if (g.number == 0) break;
    after = g.number;
    json one = to_json(g.asked);
    one["number"] = g.number;
    one["job"] = g.job_name.view();
    one["job_id"] = g.job_id;
    one["state"] = state_name(g.state);
    one["failed_tasks"] = g.failed;
    one["actual_s"] = g.ended_ns == 0 ? json() : json(seconds_between(g.asked.now_ns, g.ended_ns));
    out.push_back(one);
    const auto in = [&](std::uint64_t at_ns) {
      return at_ns < g.asked.now_ns ? "" : human_duration(at_ns - g.asked.now_ns);
    };
    table.add({std::to_string(g.number), std::string(g.job_name.view()),
               std::to_string(g.asked.tasks), std::string(state_name(g.state)),
               std::string(verdict_name(g.asked.verdict)) +
                   (g.asked.verdict == 0 && g.asked.cheaper_tasks > 0 ? ", cheaper" : "") +
                   (g.asked.promise == 0 ? "" : ", no promise"),
               in(g.asked.deadline_ns), in(g.asked.finish_ns), in(g.asked.finish_p95_ns),
               in(g.ended_ns)});
  }
  session.json ? print_json(out.dump(2, ' ', false, json::error_handler_t::replace))
               : table.print();
  return exit_done;
}

}  // namespace

void add_graph_commands(CLI::App& app, Session& session) {
  CLI::App* graph = app.add_subcommand("graph", "Graphs of tasks, and whether they meet deadlines");
  graph->require_subcommand(1);
  const auto options = std::make_shared<Options>();
  CLI::App* run = graph->add_subcommand("run", "Runs the graph of a JSON file");
  run->footer(graph_file_help);
  run->add_option("FILE", options->file, "The graph")->required();
  const auto take_deadline = [options](const std::string& text) {
    options->deadline_ns = parse_duration(text);
    if (!options->deadline_ns)
      throw CLI::ValidationError("--deadline",
                                 "'" + text + "' is no time from now, such as 1.5s, 200ms or 2min");
  };
  run->add_option_function<std::string>(
      "--deadline", take_deadline,
      "To be done in so long (1.5s, 200ms, 2min); refused at once when it would not");
  run->add_flag(
      "--allow-cheaper", options->allow_cheaper,
      "All tasks may run in their codelets' cheaper variants, if it is too late otherwise");
  run->add_option("--record", options->record,
                  "Writes what ran and how long, as WfFormat 1.5, for aiosctl simulate --graph");
  run->add_flag("--json", session.json, "As JSON (abi/schema/graph-run.json)");
  run->callback([&session, options] {
    session.action = [&session, options] {
      return run_command([&] { return run_graph(session, *options); });
    };
  });
  CLI::App* list = graph->add_subcommand(
      "list", "The last 256 graphs with a deadline: what was predicted, and what came of it");
  list->add_flag("--json", session.json, "As JSON (abi/schema/graphs.json)");
  list->callback([&session] {
    session.action = [&session] { return run_command([&] { return list_graphs(session); }); };
  });
}

}  // namespace aios::ctl
