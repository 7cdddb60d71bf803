// aiosctl graph run, list.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "abi/lib/task_client.hpp"
#include "abi/proto/mapreduce.hpp"
#include "abi/runtime/command_line.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/interrupts.hpp"
#include "tools/aiosctl/common/late_file.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/common/usage.hpp"
#include "tools/aiosctl/graphs/graph_record.hpp"
#include "tools/aiosctl/graphs/graph_report.hpp"
#include "tools/aiosctl/graphs/graph_run.hpp"
#include "tools/aiosctl/graphs/graph_spark.hpp"

namespace aios::ctl {

namespace {

namespace wire = proto::scheduler;
using mapreduce_client::InputFile;
using mapreduce_client::OutputFolder;
using nlohmann::json;

constexpr std::size_t max_listed_graphs = 1000;
/// Of a template's inputs at work together, unless --memory-mb says otherwise.
constexpr std::uint64_t usual_memory_bytes = 1ull << 30;
/// When the scheduler dies.
constexpr int most_attempts = 4;

struct Options {
  std::string record;
  std::string file;
  std::optional<std::uint64_t> deadline_ns;  ///< from when it is submitted
  bool allow_cheaper = false;
  std::vector<std::string> inputs;
  std::string output;
  std::uint64_t memory_mb = 0;
  std::uint64_t max_bad_records = 0;
  std::string engine = "local";
  std::string master;
  std::vector<std::string> settings;
};

void print_answer(const GraphRun::Admitted& a) {
  const auto in = [&](std::uint64_t at_ns) {
    return human_duration(at_ns - std::min(at_ns, a.now_ns));
  };
  if (a.finish_ns == 0) {
    print_to(stdout, "accepted without a promise: the scheduler's policy does not predict\n");
    return;
  }
  print_to(
      stdout,
      "accepted: predicted to finish in {}, with the margin that keeps 19 of 20 in time in {}; its "
      "deadline is in {}\n",
      in(a.finish_ns), in(a.finish_p95_ns), in(a.deadline_ns));
  if (a.cheaper_tasks > 0)
    print_to(stdout, "{} of its {} tasks run in cheaper variants: otherwise it would be too late\n",
             a.cheaper_tasks, a.tasks);
  if (a.unknown > 0)
    print_to(stdout, "no promise: nothing is known of {} of its {} tasks; this run teaches it\n",
             a.unknown, a.tasks);
}

/// Options that contradict one another or the file.
Result<void> check(const GraphSource& source, const Options& options) {
  const auto bad = [&](const std::string& what) {
    return error(Code::invalid_argument, options.file + " " + what);
  };
  const std::vector<GraphFile::Buffer>& buffers = source.graph().buffers;
  const bool keeps =
      std::any_of(buffers.begin(), buffers.end(), [](const auto& buffer) { return buffer.keep; });
  if (source.input() && options.inputs.empty())
    return bad("is a template: name files or folders with --input");
  if (!source.input() && !options.inputs.empty())
    return bad("is no template (it has no \"input\"): --input goes with one");
  if (!source.input() && options.max_bad_records != 0)
    return bad("is no template: --skip-bad-records is about the files of --input");
  if (keeps && options.output.empty())
    return bad("has buffers to keep: name a folder for them with --output");
  if (!options.deadline_ns) return {};
  if (source.input())
    return bad(
        "is a template, which can have no deadline: what its inputs need is known only "
        "once they are looked at");
  if (options.memory_mb != 0)
    return bad("has a deadline, and then all of it may run at once: leave --memory-mb out");
  return {};
}

/// What only one machine can do, or only several.
Result<void> check_engine(const Options& options) {
  if (options.engine != "spark") return {};
  if (options.master.empty())
    return error(Code::invalid_argument,
                 "--engine spark needs --master, such as spark://HOST:PORT or 'local[2]'");
  if (options.deadline_ns)
    return error(Code::not_supported,
                 "--deadline is of the local engine: a scheduler promises by what its own machine "
                 "has to do, and on several machines nobody knows that of all");
  if (!options.record.empty()) return error(Code::not_supported, "--record is of the local engine");
  if (options.output.empty())
    return error(Code::invalid_argument,
                 "--engine spark needs --output: a folder at the same path on every host");
  return {};
}

json error_json(const Status& why) {
  return {{"code", code_name(why.code())},
          {"text", why.message().empty() ? std::string(code_name(why.code())) : why.message()}};
}

/// Says, too, what the record lacks. Without one, nothing.
Result<void> record(std::optional<LateFile>& to, const GraphSource& source, const GraphRun& run) {
  if (!to) return {};
  TRY(record_run(*to, source, run));
  if (const std::size_t count = unplaced_tasks(run); count != 0)
    print_to(stderr,
             "{}: of {} tasks the scheduler had forgotten where they ran, which the record lacks; "
             "it keeps the last 8,192 placements\n",
             to->path(), count);
  return {};
}

/// How a run ended: commits what it kept, which no failure to record it undoes, and prints it.
Result<int> conclude(const Session& session, const Options& options, const GraphSource& source,
                     const GraphRun& run, OutputFolder* output,
                     std::optional<LateFile>& record_file, bool late, json& said) {
  const std::optional<Status> failure = failure_of(run);
  if (!failure && output != nullptr) TRY(output->commit(manifest_of(options.file, run, *output)));
  const Result<void> recorded = record(record_file, source, run);
  const bool has_deadline = !said["asked"].is_null();
  if (session.json) {
    said.update(to_json(source, run));
    said["in_time"] = has_deadline ? json(!late) : json();
    said["output"] = !failure && output != nullptr ? json(options.output) : json();
    said["error"] = failure     ? error_json(*failure)
                    : !recorded ? error_json(recorded.error())
                                : json();
    print_json(said);
  } else {
    print_report(source, run,
                 !has_deadline ? ""
                 : late        ? ": after its deadline"
                               : ": before its deadline");
    if (!failure && output != nullptr)
      print_to(stdout, "output: {} in {} files, {}\n", options.output, output->written().size(),
               human_bytes(output->written_bytes()));
  }
  if (failure && output != nullptr)
    return report(
        Status(failure->code(), failure->message() + "; nothing was written to " + options.output));
  if (!recorded) return report(recorded.error());
  return failure || late ? exit_failed : exit_done;
}

/// A graph at work, and where it writes what it keeps.
struct Work {
  std::unique_ptr<OutputFolder> output;
  std::unique_ptr<Client> scheduler;  ///< which tells where tasks run, for a record
  std::unique_ptr<GraphRun> run;
};

Result<Work> open_run(Operator& attached, const GraphSource& source,
                      const std::vector<InputFile>& inputs, const Options& options) {
  Work work;
  if (!options.output.empty()) work.output = TRY(OutputFolder::create(options.output, 0));
  const std::uint64_t memory_bytes = options.memory_mb != 0 ? options.memory_mb << 20
                                     : source.input()       ? usual_memory_bytes
                                                            : 0;
  work.run = TRY(GraphRun::open(attached.kernel(), source, inputs, work.output.get(),
                                {memory_bytes, options.allow_cheaper, options.max_bad_records,
                                 [] { return !interrupted(); }}));
  if (options.record.empty()) return work;
  work.scheduler = TRY(attached.client("scheduler", wire::Protocol::version));
  TRY(work.run->follow_placements(*work.scheduler));
  return work;
}

/// Without a deadline: when the scheduler dies all of it begins anew, with new buffers.
Result<Work> run_all(Operator& attached, const GraphSource& source,
                     const std::vector<InputFile>& inputs, const Options& options) {
  const auto once = [&]() -> Result<Work> {
    Work work = TRY(open_run(attached, source, inputs, options));
    TRY(work.run->run());
    return work;
  };
  for (int attempt = 1;; ++attempt) {
    Result<Work> work = once();
    if (work || work.error().code() != Code::peer_closed || attempt == most_attempts) return work;
  }
}

/// `said` is what is told as JSON, as far as it is known.
Result<int> run_graph(const Session& session, const Options& options, json& said) {
  const GraphSource source = TRY(GraphSource::read(options.file));
  TRY(check(source, options));
  const std::vector<InputFile> inputs = TRY(mapreduce_client::walk_inputs(options.inputs));
  if (source.input() && inputs.empty())
    return error(Code::invalid_argument, "there is no file in what --input names");
  if (options.engine == "spark")
    return std::unexpected(
        become_spark_driver(source, inputs,
                            {options.file, options.output, options.master, options.settings,
                             options.memory_mb, options.max_bad_records, session.json}));
  std::optional<LateFile> record_file;
  if (!options.record.empty()) record_file.emplace(TRY(LateFile::open(options.record)));
  catch_interrupts();
  Operator attached = TRY(Operator::attach(session));
  Work work;
  std::optional<GraphRun::Admitted> answer;
  if (options.deadline_ns) {
    work = TRY(open_run(attached, source, inputs, options));
    answer = TRY(work.run->admit(now_ns() + *options.deadline_ns));
    said["asked"] = to_json(*answer);
    if (const Result<void> accepted = refusal_of(*answer); !accepted)
      return error(accepted.error().code(),
                   accepted.error().message() +
                       (answer->cheaper_p95_ns != 0 ? "; to permit them: --allow-cheaper" : ""));
    if (!session.json) print_answer(*answer);
    TRY(work.run->run());
  } else {
    work = TRY(run_all(attached, source, inputs, options));
  }
  const auto scheduler = TRY(attached.client("scheduler", wire::Protocol::version));
  TRY(work.run->ask_for_placements(*scheduler));
  const bool late = answer && ended_ns(*work.run) > answer->deadline_ns;
  return conclude(session, options, source, *work.run, work.output.get(), record_file, late, said);
}

int run_and_tell(const Session& session, const Options& options) {
  json said{{"asked", nullptr}};
  const Result<int> ended = run_graph(session, options, said);
  if (ended) return *ended;
  if (session.json) {
    said["error"] = error_json(ended.error());
    print_json(said);
  }
  return report(ended.error());
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
               one["verdict"].get<std::string>() +
                   (g.asked.verdict == 0 && g.asked.cheaper_tasks > 0 ? ", cheaper" : "") +
                   (g.asked.promise == 0 ? "" : ", no promise"),
               in(g.asked.deadline_ns), in(g.asked.finish_ns), in(g.asked.finish_p95_ns),
               in(g.ended_ns)});
  }
  session.json ? print_json(out) : table.print();
  return exit_done;
}

}  // namespace

void add_graph_commands(CLI::App& app, Session& session) {
  CLI::App* graph = app.add_subcommand("graph", "Graphs of tasks, and whether they meet deadlines");
  graph->require_subcommand(1);
  const auto options = std::make_shared<Options>();
  CLI::App* run = graph->add_subcommand("run", "Runs the graph of a JSON file");
  run->footer(graph_file_help);
  run->add_option("FILE", options->file, "The graph, or a template of one")->required();
  run->add_option("--input", options->inputs,
                  "Of a template: files and folders; each file becomes a partition")
      ->expected(1, -1)
      ->check(command_line::names_something());
  run->add_option("--output", options->output,
                  "A folder that is empty or not there, for what is kept: a file for each buffer, "
                  "part-NNNNN.BUFFER for those of input number N, and manifest.json")
      ->check(command_line::names_something());
  run->add_option("--memory-mb", options->memory_mb,
                  "For the buffers of partitions that run at once [no limit; a template's 1024]")
      ->transform(command_line::between(std::uint64_t{1}, std::uint64_t{1} << 24));
  run->add_flag(
         "--skip-bad-records{1000}", options->max_bad_records,
         "Of a template: skips and reports files that its tasks say are bad, crash or exceed "
         "their limit on, or that its amounts do not fit, at most 1000, or as many as "
         "--skip-bad-records=N says")
      ->transform(command_line::between(std::uint64_t{0}, proto::mapreduce::max_bad_records));
  const auto take_deadline = [options](const std::string& text) {
    options->deadline_ns = parse_duration(text);
    if (options->deadline_ns.value_or(0) == 0)
      throw CLI::ValidationError("--deadline",
                                 "'" + text + "' is no time from now, such as 1.5s, 200ms or 2min");
  };
  run->add_option_function<std::string>(
      "--deadline", take_deadline,
      "To be done in so long (1.5s, 200ms, 2min); refused at once when it would not");
  run->add_flag(
      "--allow-cheaper", options->allow_cheaper,
      "All tasks may run in their codelets' cheaper variants, if it is too late otherwise");
  run->add_option(
         "--record", options->record,
         "Writes what ran where and how long, as WfFormat 1.5, for aiosctl simulate --graph")
      ->check(command_line::names_something());
  run->add_option("--engine", options->engine,
                  "Where it runs: local, on this machine, or spark, partition by partition on the "
                  "hosts of a cluster, each by what its own scheduler has learned [local]")
      ->check(CLI::IsMember({"local", "spark"}));
  run->add_option("--master", options->master,
                  "Of Spark: spark://HOST:PORT, yarn, k8s://..., local[N]")
      ->envname("AIOS_SPARK_MASTER");
  run->add_option("--conf", options->settings, "Of Spark: spark.NAME=VALUE, any number of times")
      ->allow_extra_args(false);
  run->add_flag("--json", session.json, "As JSON (abi/schema/graph-run.json)");
  run->callback([&session, options] {
    expect_sense(check_engine(*options));
    session.action = [&session, options] { return run_and_tell(session, *options); };
  });
  CLI::App* list = graph->add_subcommand(
      "list", "The last 256 graphs with a deadline: what was predicted, and what came of it");
  list->add_flag("--json", session.json, "As JSON (abi/schema/graphs.json)");
  list->callback([&session] {
    session.action = [&session] { return run_command([&] { return list_graphs(session); }); };
  });
}

}  // namespace aios::ctl
