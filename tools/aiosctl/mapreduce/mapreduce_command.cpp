// aiosctl mapreduce run, jobs and cancel.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>
#include <wordexp.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "abi/lib/mapreduce/client.hpp"
#include "abi/lib/mapreduce/device_job.hpp"
#include "abi/lib/mapreduce/format.hpp"
#include "abi/lib/module_file.hpp"
#include "abi/proto/mapreduce.hpp"
#include "abi/runtime/command_line.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/install_paths.hpp"
#include "tools/aiosctl/common/interrupts.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/common/usage.hpp"
#include "tools/aiosctl/mapreduce/spark_driver.hpp"
#include "tools/aiosctl/mapreduce/streaming_job.hpp"

namespace aios::ctl {

namespace {

namespace wire = proto::mapreduce;
using nlohmann::json;

constexpr std::size_t max_listed_jobs = 1000;
constexpr std::uint64_t plain_interval_ns = 5 * ns_per_s;
/// Of the whole, as progress counts it: merging is quicker than mapping, byte for byte.
constexpr double map_share = 0.85;

struct RunOptions {
  std::string job;
  std::vector<std::string> inputs;
  std::string input_format;
  std::string field;
  std::vector<std::string> then;
  std::string output;
  std::uint32_t reducers = 1;
  std::uint32_t threads = 0;
  std::uint64_t memory_mb = 0;
  double task_limit_s = 0;
  std::uint64_t max_bad_records = 0;
  std::string mapper;
  std::string reducer;
  std::vector<std::string> files;
  std::string engine = "local";
  std::string master;
  std::vector<std::string> settings;
  std::vector<std::string> arguments;
};

std::string_view phase_name(std::uint32_t phase) {
  constexpr std::string_view names[] = {"map", "reduce", "done", "failed", "fetching", "unpacking"};
  return phase < std::size(names) ? names[phase] : "unknown";
}

/// The job's input is still brought to where tasks can read it.
bool prepares(std::uint32_t phase) {
  return phase == static_cast<std::uint32_t>(wire::Phase::fetching) ||
         phase == static_cast<std::uint32_t>(wire::Phase::unpacking);
}

/// Of the job; while its input is prepared, of that.
double part_done(const wire::Progress& p, std::uint64_t input_bytes) {
  const auto share = [](std::uint64_t done, std::uint64_t all) {
    return all == 0 ? 1.0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(all));
  };
  const double mapped = share(p.mapped_bytes, input_bytes);
  if (prepares(p.phase)) return mapped;
  const bool merging = p.phase != static_cast<std::uint32_t>(wire::Phase::map);
  return map_share * mapped +
         (merging ? (1 - map_share) * share(p.merged_bytes, p.merge_bytes) : 0);
}

/// One line to standard error: on a terminal rewritten in place, elsewhere a new one now and then.
class ProgressLine {
 public:
  void show(const wire::Progress& p, std::uint64_t input_bytes) {
    const std::uint64_t now = now_ns();
    // The rate is that of bytes of one kind.
    if (p.phase != phase_ && (prepares(p.phase) || prepares(phase_))) begin_ns_ = now;
    phase_ = p.phase;
    if (now - shown_ns_ < (terminal_ ? wire::progress_interval_ns / 2 : plain_interval_ns)) return;
    shown_ns_ = now;
    const double seconds = static_cast<double>(now - begin_ns_) / ns_per_s;
    std::string text =
        fmt::format("{}{:<6} {:3.0f}%  {:.0f} MB/s", stage_, phase_name(p.phase),
                    100 * part_done(p, input_bytes),
                    static_cast<double>(p.mapped_bytes) / 1e6 / std::max(seconds, 0.001));
    text += prepares(p.phase)
                ? fmt::format("  {} of {}", human_bytes(p.mapped_bytes), human_bytes(input_bytes))
                : fmt::format("  {} records  {} spilled", p.records, human_bytes(p.spilled_bytes));
    if (terminal_)
      print_to(stderr, "\r\033[K{}", text);
    else
      print_to(stderr, "{}\n", text);
    std::fflush(stderr);
    drawn_ = true;
  }
  /// A stage of a chain begins.
  void begin(const std::string& stage) {
    stage_ = stage + ": ";
    begin_ns_ = shown_ns_ = now_ns();
  }
  void clear() {
    if (terminal_ && drawn_) print_to(stderr, "\r\033[K");
    drawn_ = false;
  }

 private:
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool drawn_ = false;
  std::string stage_;
  std::uint32_t phase_ = 0;
  std::uint64_t begin_ns_ = now_ns();
  std::uint64_t shown_ns_ = begin_ns_;
};

/// JOB is one that AIOS brings along, unless it looks like a path.
Result<std::string> find_module(const std::string& job) {
  if (job.find('/') != job.npos || job.ends_with(".so")) return job;
  const std::string path = TRY(find_libexec()) + "/modules/" + job + ".so";
  if (::access(path.c_str(), R_OK) != 0)
    return error(Code::not_found, "there is no job '" + job + "' (" + path +
                                      "); name one that comes with AIOS, such as wordcount or "
                                      "grep, or the path of a module");
  return path;
}

std::string label_of(const std::string& job) {
  std::string name = job.substr(job.find_last_of('/') + 1);
  if (name.ends_with(".so")) name.resize(name.size() - 3);
  return name.empty() ? "job" : name.substr(0, 31);
}

/// Lent files are on their way in the kernel and count against this limit.
std::uint64_t raise_open_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

void print_report(const mapreduce_client::Options& options,
                  const mapreduce_client::Report& report) {
  const wire::Progress& p = report.progress;
  const double seconds = static_cast<double>(report.seconds_ns) / ns_per_s;
  print_to(stdout, "{}: {:.1f} MB of input in {} files, {:.2f} s, {:.0f} MB/s\n", options.label,
           static_cast<double>(report.input_bytes) / 1e6, report.input_files, seconds,
           static_cast<double>(report.input_bytes) / 1e6 / std::max(seconds, 1e-6));
  print_to(stdout, "{} records, {} distinct keys; {} tasks, {} retries, {} spilled\n", p.records,
           p.distinct_keys, p.tasks, p.attempts - std::min(p.attempts, p.tasks),
           human_bytes(p.spilled_bytes));
  if (p.second_attempts != 0)
    print_to(stdout, "{} second attempts at tasks that took long; {} were first to end\n",
             p.second_attempts, p.second_attempts_won);
  for (const auto& [name, value] : report.counters)
    print_to(stdout, "{}: {}\n", printable(name), value);
  for (const auto& record : report.skipped)
    print_to(stdout, "skipped: {}, at byte {} ({})\n", printable(record.file), record.offset,
             code_name(record.why));
  for (const std::string& note : report.notes) print_to(stdout, "{}\n", printable(note));
  print_to(stdout, "output: {} in {} part{}, {}\n", options.output, report.parts,
           report.parts == 1 ? "" : "s", human_bytes(report.output_bytes));
}

json counters_json(const mapreduce_client::Report& report) {
  json all = json::object();
  for (const auto& [name, value] : report.counters) all[name] = value;
  return all;
}

json skipped_json(const mapreduce_client::Report& report) {
  json all = json::array();
  for (const auto& record : report.skipped)
    all.push_back(
        {{"file", record.file}, {"offset", record.offset}, {"why", code_name(record.why)}});
  return all;
}

void print_report_json(const mapreduce_client::Options& options,
                       const mapreduce_client::Report& report) {
  const wire::Progress& p = report.progress;
  const json object = {{"job", options.label},
                       {"input_bytes", report.input_bytes},
                       {"records", p.records},
                       {"distinct_keys", p.distinct_keys},
                       {"seconds", static_cast<double>(report.seconds_ns) / ns_per_s},
                       {"attempts", p.attempts},
                       {"retries", p.attempts - std::min(p.attempts, p.tasks)},
                       {"second_attempts", p.second_attempts},
                       {"second_attempts_won", p.second_attempts_won},
                       {"spilled_bytes", p.spilled_bytes},
                       {"skipped_records", skipped_json(report)},
                       {"notes", report.notes},
                       {"counters", counters_json(report)}};
  print_json(object, -1);
}

/// The jobs of those that come with AIOS as chains.
std::vector<std::string> jobs_of(const std::string& job) {
  if (job == "tf-idf") return {"tf-idf-count", "tf-idf-length", "tf-idf-weight"};
  return {job};
}

/// A stage, as --then names it: a job and its arguments, split as sh would.
Result<mapreduce_client::Stage> stage_of(const std::string& command) {
  wordexp_t words{};
  const int problem = ::wordexp(command.c_str(), &words, WRDE_NOCMD | WRDE_UNDEF);
  const std::vector<std::string> split(words.we_wordv, words.we_wordv + words.we_wordc);
  if (problem == 0 || problem == WRDE_NOSPACE) ::wordfree(&words);
  if (problem != 0 || split.empty())
    return error(Code::invalid_argument,
                 "--then '" + command + "' is no JOB with its arguments; is a quote missing?");
  if (jobs_of(split[0]).size() != 1)
    return error(Code::invalid_argument, "--then " + split[0] + ": it is a chain of its own");
  std::string module = TRY(find_module(split[0]));
  return mapreduce_client::Stage{
      label_of(split[0]), std::move(module), {split.begin() + 1, split.end()}};
}

/// The jobs after the first.
Result<std::vector<mapreduce_client::Stage>> later_stages(const RunOptions& chosen) {
  std::vector<mapreduce_client::Stage> stages;
  const std::vector<std::string> jobs = jobs_of(chosen.job);
  for (std::size_t i = 1; i < jobs.size(); ++i) {
    std::string module = TRY(find_module(jobs[i]));
    stages.push_back({jobs[i], std::move(module), {}});
  }
  for (const std::string& command : chosen.then) stages.push_back(TRY(stage_of(command)));
  return stages;
}

/// Stages after the first, as the driver reads them.
std::vector<std::string> described(const std::vector<mapreduce_client::Stage>& stages) {
  std::vector<std::string> all;
  for (const auto& [label, path, arguments] : stages)
    all.push_back(json({{"label", label}, {"module", path}, {"arguments", arguments}})
                      .dump(-1, ' ', false, json::error_handler_t::replace));
  return all;
}

/// As the driver reads it; empty when it is none. What such jobs cannot do is said before Spark is
/// asked.
Result<std::string> device_job_of(const RunOptions& chosen, const SparkJob& job,
                                  const std::vector<mapreduce_client::Stage>& later) {
  for (const mapreduce_client::Stage& stage : later)
    TRY(mapreduce_client::check_later_stage(stage, TRY(read_module_file(stage.module_path))));
  const auto found = mapreduce_client::device_job_of(TRY(read_module_file(job.module_path)));
  if (!found) return std::string();
  mapreduce_client::Options options;
  options.label = job.label;
  options.reducers = chosen.reducers;
  options.input_format = chosen.input_format;
  options.field = chosen.field;
  options.then = later;
  options.arguments = chosen.arguments;
  options.max_bad_records = chosen.max_bad_records;
  return mapreduce_client::describe_device_job(*found, options);
}

Result<int> run_on_spark(const Session& session, const RunOptions& chosen) {
  SparkJob job;
  const std::string name = chosen.mapper.empty() ? chosen.job : "streaming";
  const auto later = TRY(later_stages(chosen));
  job.module_path = TRY(find_module(jobs_of(name)[0]));
  job.label = label_of(name);
  job.device_job = TRY(device_job_of(chosen, job, later));
  job.then = described(later);
  job.mapper = chosen.mapper;
  job.reducer = chosen.reducer;
  job.files = chosen.files;
  job.max_bad_records = chosen.max_bad_records;
  job.input_format = chosen.input_format;
  job.field = chosen.field;
  job.inputs = chosen.inputs;
  job.output = chosen.output;
  job.master = chosen.master;
  job.settings = chosen.settings;
  job.reducers = chosen.reducers;
  job.memory_mb = chosen.memory_mb;
  job.task_limit_s = chosen.task_limit_s;
  job.json = session.json;
  job.arguments = chosen.arguments;
  // Objects among the inputs are those of the instance that aiosctl would use.
  ::setenv("AIOS_SOCKET", session.socket.c_str(), 1);
  return std::unexpected(become_spark_driver(job));
}

/// Options that contradict one another, or lack something.
Result<void> check(const RunOptions& chosen) {
  const auto bad = [](const char* what) { return error(Code::invalid_argument, what); };
  const bool streaming = !chosen.mapper.empty();
  if (streaming != chosen.job.empty())
    return bad("name a JOB, or programs with --mapper and --reducer, and not both");
  if (!streaming && (!chosen.reducer.empty() || !chosen.files.empty()))
    return bad("--reducer and --file go with --mapper");
  if (streaming && !chosen.arguments.empty())
    return bad("write the programs' arguments into --mapper and --reducer");
  if (streaming && chosen.max_bad_records != 0)
    return bad("--skip-bad-records is of jobs that are modules");
  if (streaming && (!chosen.input_format.empty() || !chosen.field.empty() || !chosen.then.empty()))
    return bad("--input-format, --field and --then are of jobs that are modules");
  if (chosen.engine == "spark" && chosen.master.empty())
    return bad("--engine spark needs --master, such as spark://HOST:7077 or 'local[2]'");
  TRY(mapreduce_client::parse_input_format(chosen.input_format, chosen.field));
  return {};
}

Result<mapreduce_client::Report> execute(Operator& attached, const RunOptions& chosen,
                                         const mapreduce_client::Options& options,
                                         const mapreduce_client::OnProgress& on_progress) {
  const Handle port = TRY(attached.port(wire::Protocol::name));
  if (chosen.mapper.empty())
    return mapreduce_client::run(attached.kernel(), port, options, on_progress);
  return run_streaming(attached.kernel(), port,
                       {chosen.mapper, chosen.reducer, chosen.files, options}, on_progress);
}

Result<int> run_job(const Session& session, const RunOptions& chosen) {
  if (chosen.engine == "spark") return run_on_spark(session, chosen);
  mapreduce_client::Options options;
  const std::string job = chosen.mapper.empty() ? chosen.job : "streaming";
  options.module_path = TRY(find_module(jobs_of(job)[0]));
  options.label = label_of(job);
  options.input_format = chosen.input_format;
  options.field = chosen.field;
  options.then = TRY(later_stages(chosen));
  options.arguments = chosen.arguments;
  options.inputs = chosen.inputs;
  options.output = chosen.output;
  options.reducers = chosen.reducers;
  options.memory_bytes = chosen.memory_mb << 20;
  options.task_limit_ns = static_cast<std::uint64_t>(chosen.task_limit_s * 1e9);
  options.max_bad_records = chosen.max_bad_records;
  options.open_files = raise_open_files();
  // A job of its own: it shares contexts with nothing else, and everything ends with this process.
  // Below `aiosctl run` it is that job's work, and counts in its quota.
  AttachOptions own;
  if (std::getenv("AIOS_JOB") == nullptr) own.job_name = "mr-" + std::to_string(::getpid());
  Operator attached = TRY(Operator::attach(session, own));
  options.threads = chosen.threads != 0 ? chosen.threads
                                        : TRY(mapreduce_client::device_threads(attached.kernel()));
  catch_interrupts();
  ProgressLine line;
  options.on_stage = [&line](const mapreduce_client::Stage& stage) { line.begin(stage.label); };
  const auto report = execute(attached, chosen, options,
                              [&line](const wire::Progress& progress, std::uint64_t input_bytes) {
                                line.show(progress, input_bytes);
                                return !interrupted();
                              });
  line.clear();
  if (!report) return std::unexpected(report.error());
  session.json ? print_report_json(options, *report) : print_report(options, *report);
  return exit_done;
}

Result<int> list_jobs(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const auto service = TRY(attached.client(wire::Protocol::name, wire::Protocol::version));
  json out = json::array();
  Table table({{"JOB", Align::right},
               {"NAME"},
               {"UID", Align::right},
               {"PHASE"},
               {"DONE", Align::right},
               {"INPUT", Align::right},
               {"RECORDS", Align::right},
               {"THREADS", Align::right},
               {"REDUCERS", Align::right},
               {"SPILLED", Align::right},
               {"RUNNING", Align::right}});
  std::uint64_t after = 0;
  for (std::size_t listed = 0; listed < max_listed_jobs; ++listed) {
    const auto job = TRY(service->call<wire::JobNext>({after}, Deadline::after(call_timeout_ns)));
    if (job.job == 0) break;
    after = job.job;
    const double percent = 100 * part_done(job.progress, job.input_bytes);
    const std::uint64_t running_ns = now_ns() - job.started_ns;
    out.push_back({{"job", job.job},
                   {"name", job.label.view()},
                   {"uid", job.uid},
                   {"kernel_job_id", job.kernel_job_id},
                   {"phase", phase_name(job.progress.phase)},
                   {"percent", percent},
                   {"input_bytes", job.input_bytes},
                   {"read_bytes", job.progress.mapped_bytes},
                   {"records", job.progress.records},
                   {"threads", job.threads},
                   {"reducers", job.reducers},
                   {"tasks", job.progress.tasks},
                   {"attempts", job.progress.attempts},
                   {"second_attempts", job.progress.second_attempts},
                   {"spilled_bytes", job.progress.spilled_bytes},
                   {"running_ns", running_ns}});
    table.add({std::to_string(job.job), std::string(job.label.view()), std::to_string(job.uid),
               std::string(phase_name(job.progress.phase)), fmt::format("{:.0f}%", percent),
               human_bytes(job.input_bytes), std::to_string(job.progress.records),
               std::to_string(job.threads), std::to_string(job.reducers),
               human_bytes(job.progress.spilled_bytes), human_duration(running_ns)});
  }
  if (session.json)
    print_json(out);
  else
    table.print();
  return exit_done;
}

Result<int> cancel_job(const Session& session, std::uint64_t job) {
  Operator attached = TRY(Operator::attach(session));
  const auto service = TRY(attached.client(wire::Protocol::name, wire::Protocol::version));
  TRY(service->call<wire::Cancel>({job}, Deadline::after(call_timeout_ns)));
  print_to(stdout, "cancelled job {}\n", job);
  return exit_done;
}

void add_input_and_output(CLI::App& run, RunOptions& options) {
  run.add_option(
         "--input", options.inputs,
         "Files, folders, and objects of storage as aios:NAME or aios:PREFIX/; .gz and .zst "
         "are unpacked")
      ->required()
      ->expected(1, -1)
      ->check(command_line::names_something());
  run.add_option("--input-format", options.input_format,
                 "What records are: text, csv (csv:D with another delimiter; csv:tab), jsonl, or "
                 "fixed:N with N bytes each [text]")
      ->check(command_line::names_something());
  run.add_option("--field", options.field,
                 "What of a record the job sees. csv: its number, or its name in the header that "
                 "every file then begins with; jsonl: a member's name or a JSON pointer; fixed: "
                 "OFFSET:BYTES [all of it]")
      ->check(command_line::names_something());
  run.add_option("--output", options.output, "A folder that is empty or not there")
      ->required()
      ->check(command_line::names_something());
  run.add_option("--reducers", options.reducers, "Parts of the output")
      ->transform(command_line::between(1u, wire::max_reducers));
}

void add_run(CLI::App& group, Session& session) {
  CLI::App* run = group.add_subcommand(
      "run", "Runs a job over files and folders; its arguments follow after --");
  auto options = std::make_shared<RunOptions>();
  run->add_option("JOB", options->job,
                  "wordcount, grep, sort, inverted-index, tf-idf, k-means, image-histogram, or the "
                  "path of a module (.so)")
      ->check(command_line::names_something());
  run->add_option("--mapper", options->mapper,
                  "Instead of JOB, a program: lines in, KEY<tab>VALUE lines out, as under Hadoop "
                  "Streaming; it is locked in, and sees files that the command names")
      ->check(command_line::names_something());
  run->add_option("--reducer", options->reducer,
                  "With --mapper: a program that gets these lines sorted by key")
      ->check(command_line::names_something());
  run->add_option("--file", options->files, "What these programs may read beside")
      ->allow_extra_args(false);
  add_input_and_output(*run, *options);
  run->add_option(
         "--then", options->then,
         "A chain: 'JOB ARGUMENT...' that reads what the job before it wrote, any number of "
         "times; the output is that of the last")
      ->allow_extra_args(false)
      ->check(command_line::names_something());
  run->add_option("--threads", options->threads, "Tasks at once [all cores]")
      ->transform(command_line::between(1u, wire::max_threads));
  run->add_option("--memory-mb", options->memory_mb,
                  "Memory for tables, sorted runs and merging [a quarter of the machine, at most "
                  "1024]; what does not fit is spilled to storage")
      ->transform(
          command_line::between(wire::min_memory_bytes >> 20, wire::max_memory_bytes >> 20));
  run->add_option("--task-limit-s", options->task_limit_s, "Ends a task that runs longer [none]")
      ->transform(command_line::between(0.001, 1e6));
  run->add_flag("--skip-bad-records{1000}", options->max_bad_records,
                "Skips and reports records that the job crashes, fails or exceeds its limit on, at "
                "most 1000, or as many as --skip-bad-records=N says")
      ->transform(command_line::between(std::uint64_t{0}, wire::max_bad_records));
  run->add_option("--engine", options->engine,
                  "Where it runs: local, on this machine, or spark, on a cluster [local]")
      ->check(CLI::IsMember({"local", "spark"}));
  run->add_option("--master", options->master,
                  "Of Spark: spark://HOST:PORT, yarn, k8s://..., local[N]")
      ->envname("AIOS_SPARK_MASTER");
  run->add_option("--conf", options->settings, "Of Spark: spark.NAME=VALUE, any number of times")
      ->allow_extra_args(false);
  run->add_flag("--json", session.json, "Ends with one JSON object");
  run->add_option("ARGUMENTS", options->arguments, "After --: the job's own arguments");
  run->footer(
      "Arguments of the jobs that come with AIOS:\n"
      "  grep             PATTERN, an extended regular expression\n"
      "  k-means          k=CENTRES [iterations=100] [tolerance=0] [seed=0]; its input is text, a\n"
      "                   point a line: numbers with commas or blanks between them\n"
      "  image-histogram  none; its input are JPEG and PNG files\n"
      "What each writes: services/mapreduce/jobs/README.md");
  run->callback([&session, options] {
    expect_sense(check(*options));
    session.action = [&session, options] {
      return run_command([&] { return run_job(session, *options); });
    };
  });
}

}  // namespace

void add_mapreduce_commands(CLI::App& app, Session& session) {
  CLI::App* group = app.add_subcommand("mapreduce", "MapReduce jobs");
  group->require_subcommand(1);
  add_run(*group, session);
  CLI::App* jobs = group->add_subcommand("jobs",
                                         "Lists the jobs that run, and those whose input is "
                                         "still fetched or unpacked");
  jobs->add_flag("--json", session.json, "As JSON");
  jobs->callback([&session] {
    session.action = [&session] { return run_command([&] { return list_jobs(session); }); };
  });
  CLI::App* cancel = group->add_subcommand("cancel", "Ends a job");
  auto number = std::make_shared<std::uint64_t>();
  cancel->add_option("JOB", *number, "Its number, as `aiosctl mapreduce jobs` lists it")
      ->required()
      ->transform(command_line::at_least(std::uint64_t{1}));
  cancel->callback([&session, number] {
    session.action = [&session, number] {
      return run_command([&] { return cancel_job(session, *number); });
    };
  });
}

}  // namespace aios::ctl
