#include "tools/aiosctl/graphs/graph_run.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "abi/include/aios/codelet.h"
#include "abi/lib/module_file.hpp"
#include "tools/aiosctl/common/memory.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/graphs/graph_partition.hpp"
#include "tools/aiosctl/graphs/placements.hpp"

namespace aios::ctl {

namespace {

namespace wire = proto::scheduler;
using mapreduce_client::DeviceTasks;
using mapreduce_client::InputFile;
using mapreduce_client::OutputFolder;

/// Inputs under way at once: each is a file that is lent.
constexpr std::size_t most_inputs_at_once = 64;
/// With the joins that are added, less than a tenant may have pending.
constexpr std::size_t most_tasks_at_once = wire::max_graph_tasks / 2;
constexpr std::uint32_t most_runs = 4;
/// Fewer wakings when much runs.
constexpr std::uint32_t completions_at_once = 64;
/// After so many ends placements are asked for, where a record needs them.
constexpr std::uint32_t places_each = 1024;

Result<void> load_file(const std::string& path, std::span<std::byte> memory) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return errno_error(path, errno);
  for (std::size_t at = 0; at < memory.size();) {
    const ssize_t got =
        ::pread(file.get(), memory.data() + at, memory.size() - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error(path, errno);
    if (got == 0) return error(Code::source_changed, path + ": became shorter meanwhile");
    at += static_cast<std::size_t>(got);
  }
  return {};
}

/// For each task of a partition those that it waits for, by their places there.
std::vector<std::set<std::size_t>> parents_of(const TaskGraph::Plan& plan) {
  const std::uint64_t first_tag = plan.records.front().tag;
  std::map<std::size_t, std::size_t> task_at;
  for (std::size_t i = 0; i < plan.position.size(); ++i) task_at[plan.position[i]] = i;
  std::vector<std::set<std::size_t>> all(plan.position.size());
  for (std::size_t task = 0; task < all.size(); ++task) {
    std::vector<std::size_t> to_look_at{plan.position[task]};
    while (!to_look_at.empty()) {
      const wire::TaskRecord& record = plan.records[to_look_at.back()];
      to_look_at.pop_back();
      for (std::uint32_t i = 0; i < record.dependency_count; ++i) {
        const std::size_t before = record.dependencies[i] - static_cast<std::uint32_t>(first_tag);
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

bool is_code(const TaskReport& task, Code code) {
  return task.done.status == static_cast<std::uint32_t>(code);
}

}  // namespace

std::string output_name(const GraphSource& source, std::size_t partition,
                        const std::string& buffer) {
  return source.input() ? fmt::format("part-{:05}.{}", partition, buffer) : buffer;
}

GraphRun::GraphRun(Kernel& kernel, const GraphSource& source, std::vector<InputFile> inputs,
                   OutputFolder* output, Options options)
    : kernel_(kernel),
      source_(source),
      inputs_(std::move(inputs)),
      output_(output),
      options_(std::move(options)) {
  if (!source.input()) {
    for (std::vector<std::uint32_t>& places : partitions_of(source.graph()))
      reports_.push_back({.places = std::move(places)});
    return;
  }
  std::vector<std::uint32_t> all(source.graph().tasks.size());
  for (std::uint32_t i = 0; i < all.size(); ++i) all[i] = i;
  for (const InputFile& input : inputs_) reports_.push_back({.places = all, .input = input.path});
}

Result<std::unique_ptr<GraphRun>> GraphRun::open(Kernel& kernel, const GraphSource& source,
                                                 std::vector<InputFile> inputs,
                                                 OutputFolder* output, Options options) {
  std::unique_ptr<GraphRun> run(
      new GraphRun(kernel, source, std::move(inputs), output, std::move(options)));
  run->tasks_ = TRY(DeviceTasks::open(kernel, {}, run->options_.keep_going));
  TRY(run->register_codelets());
  return run;
}

Result<void> GraphRun::register_codelets() {
  for (const GraphFile::Codelet& codelet : source_.graph().codelets) {
    const std::vector<std::byte> module = TRY(read_module_file(codelet.module));
    codelets_.push_back(TRY(tasks_->codelets(module, {codelet.function}))[0]);
  }
  for (std::size_t i = 0; i < codelets_.size(); ++i)
    if (const auto cheaper = source_.graph().codelets[i].cheaper)
      TRY(tasks_->set_cheaper(codelets_[i], codelets_[*cheaper]));
  return {};
}

const GraphFile& GraphRun::graph_of(const Part& part) const {
  return source_.input() ? part.own : source_.graph();
}

Result<GraphRun::Admitted> GraphRun::admit(std::uint64_t due_ns) {
  has_deadline_ = true;
  const Result<std::uint32_t> opened = tasks_->open_graph(due_ns);
  // To the scheduler such a deadline makes no sense; here it was in order when it was given.
  if (!opened && opened.error().code() == Code::invalid_argument && now_ns() >= due_ns)
    return error(Code::too_late, "the graph's deadline passed while it was submitted");
  const std::uint32_t graph = TRY(opened);
  TRY(begin_some());
  if (running_tasks_ > wire::max_graph_tasks || !waiting_.empty())
    return error(Code::quota,
                 "a graph with a deadline has at most 32,768 tasks here, joins among them");
  TRY(tasks_->submit(graph));
  const Admitted answer = TRY(tasks_->admit(graph));
  runs_cheaper_ = answer.cheaper_tasks > 0;
  return answer;
}

Result<void> GraphRun::run() {
  while (true) {
    TRY(begin_some());
    if (parts_.empty()) return {};
    if (running_tasks_ == 0) continue;  // all that had begun has failed
    TRY(tasks_->submit());
    const bool all_run = next_ == reports_.size() && waiting_.empty();
    const auto least = all_run ? std::min<std::size_t>(running_tasks_, completions_at_once) : 1;
    for (const Completion& done : TRY(tasks_->completions(static_cast<std::uint32_t>(least)))) {
      TRY(take(done));
      ++ended_since_;
    }
    if (!places_ || ended_since_ < places_each) continue;
    TRY(places_->take());
    ended_since_ = 0;
  }
}

// ---- before its tasks run ----

Result<void> GraphRun::begin_some() {
  const std::size_t most = source_.input() ? most_inputs_at_once : reports_.size();
  while (next_ < reports_.size() && parts_.size() < most && !failed_) TRY(begin(next_++));
  // The first is never passed by, so that a large one has its turn.
  while (!waiting_.empty() && (failed_ || has_room(*waiting_.front()))) {
    const Parts::iterator part = waiting_.front();
    waiting_.pop_front();
    if (failed_) {
      parts_.erase(part);
      continue;
    }
    if (const auto started = start(part); !started)
      return error(
          started.error().code(),
          (source_.input() ? inputs_[part->number].path + ": " : "") + started.error().message());
  }
  return {};
}

Result<void> GraphRun::begin(std::size_t number) {
  const Parts::iterator part = parts_.insert(parts_.end(), Part{.number = number});
  if (!source_.input()) return await_turn(part, {});
  if (inputs_[number].size_bytes == 0)
    return fail(part, Status(Code::corrupt, "the file is empty"), Fault::input);
  TRY(lend_input(*part));
  if (!source_.input()->codelet) return await_turn(part, {});
  probe(part);
  return {};
}

Result<void> GraphRun::lend_input(Part& part) {
  const mapreduce_client::Piece whole{static_cast<std::uint32_t>(part.number), 0,
                                      inputs_[part.number].size_bytes};
  const auto channels = TRY(mapreduce_client::lend_pieces(kernel_, inputs_, {&whole, 1}));
  part.input_buffer = TRY(tasks_->files(channels.front()));
  return {};
}

void GraphRun::probe(Parts::iterator part) {
  Record record = source_.input()->record;
  record.codelet = codelets_[*source_.input()->codelet];
  add_buffer(record, *part->input_buffer, AIOS_MODE_READ);
  part->probing = true;
  part->unfinished = 1;
  part->first_tag = tasks_->add(record);
  tagged_.emplace(part->first_tag, part);
  ++running_tasks_;
}

/// What it needs is known: it starts when there is room.
Result<void> GraphRun::await_turn(Parts::iterator part, std::span<const std::uint64_t> results) {
  if (source_.input()) {
    auto made = source_.graph_for(inputs_[part->number].size_bytes, results);
    // For some input it is right: it was read with a small one.
    if (!made) return fail(part, made.error(), Fault::input);
    part->own = *std::move(made);
  }
  const GraphFile& graph = graph_of(*part);
  std::set<std::uint32_t> used;
  for (const std::uint32_t place : reports_[part->number].places)
    for (std::uint32_t i = 0; i < graph.tasks[place].record.buffer_count; ++i)
      used.insert(GraphFile::buffer_of(graph.tasks[place].record.buffers[i]));
  for (const std::uint32_t buffer : used) {
    part->buffers.emplace(buffer, std::nullopt);
    part->bytes += graph.buffers[buffer].bytes;
  }
  if (options_.memory_bytes != 0 && part->bytes > options_.memory_bytes)
    return fail(part,
                Status(Code::too_large,
                       "its buffers need " + human_bytes(part->bytes) + ", and the run may use " +
                           human_bytes(options_.memory_bytes) + "; give it a larger --memory-mb"),
                Fault::run);
  waiting_.push_back(part);
  return {};
}

bool GraphRun::has_room(const Part& part) const {
  if (running_tasks_ == 0) return true;
  return (options_.memory_bytes == 0 || used_bytes_ + part.bytes <= options_.memory_bytes) &&
         (has_deadline_ ||
          running_tasks_ + reports_[part.number].places.size() <= most_tasks_at_once);
}

Result<void> GraphRun::start(Parts::iterator part) {
  PartitionReport& report = reports_[part->number];
  used_bytes_ += part->bytes;
  TRY(make_buffers(*part));
  part->plan = TRY(plan_of(*part));
  if (part->plan.records.size() > wire::max_graph_tasks)
    return error(Code::quota,
                 "a partition has at most 32,768 tasks here, joins among them; this one has " +
                     std::to_string(part->plan.records.size()));
  part->first_tag = part->plan.records.front().tag;
  part->ended.assign(part->plan.records.size(), {});
  part->unfinished = part->plan.records.size();
  running_tasks_ += part->unfinished;
  tagged_.emplace(part->first_tag, part);
  ++report.attempts;
  report.submitted_ns = now_ns();
  if (submitted_ns_ == 0) submitted_ns_ = report.submitted_ns;
  for (const Record& record : part->plan.records) tasks_->add(record);
  return {};
}

Result<void> GraphRun::make_buffers(Part& part) {
  const GraphFile& graph = graph_of(part);
  for (auto& [place, registered] : part.buffers) {
    const GraphFile::Buffer& buffer = graph.buffers[place];
    if (buffer.is_input) {
      registered = *part.input_buffer;
    } else if (!buffer.file.empty()) {
      const auto file = TRY(mapreduce_client::walk_inputs({&buffer.file, 1}));
      if (file.size() != 1)
        return error(Code::source_changed, buffer.file + ": is no longer a file");
      const mapreduce_client::Piece whole{0, 0, file[0].size_bytes};
      const auto channels = TRY(mapreduce_client::lend_pieces(kernel_, file, {&whole, 1}));
      registered = TRY(tasks_->files(channels.front()));
    } else {
      Region& memory = part.memory[place] = TRY(memory_of(buffer));
      registered = TRY(tasks_->memory(memory, {{0, buffer.bytes, true}}))[0];
    }
  }
  return {};
}

Result<Region> GraphRun::memory_of(const GraphFile::Buffer& buffer) {
  Region memory =
      TRY(memory_for(kernel_, "buffer '" + buffer.name + "'", buffer.bytes, buffer.name));
  if (!buffer.load.empty()) TRY(load_file(buffer.load, memory.bytes().first(buffer.bytes)));
  return memory;
}

Result<TaskGraph::Plan> GraphRun::plan_of(const Part& part) {
  const GraphFile& graph = graph_of(part);
  const std::vector<std::uint32_t>& places = reports_[part.number].places;
  std::map<std::uint32_t, std::uint32_t> number_of;
  TaskGraph tasks;
  for (const std::uint32_t place : places) {
    const GraphFile::Task& task = graph.tasks[place];
    Record record = task.record;
    record.codelet = codelets_[record.codelet];
    if (may_be_cheaper(record)) record.flags |= wire::task_flag::may_be_cheaper;
    for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
      const std::uint32_t use = record.buffers[i];
      record.buffers[i] = *part.buffers.at(GraphFile::buffer_of(use)) |
                          GraphFile::mode_of(use) << GraphFile::buffer_bits;
    }
    const auto added = tasks.add(record);
    if (!added) return error(added.error().code(), task.name + ": " + added.error().message());
    number_of[place] = *added;
  }
  for (const std::uint32_t place : places)
    for (const std::uint32_t before : graph.tasks[place].after)
      TRY(tasks.add_edge(number_of.at(before), number_of.at(place)));
  for (const std::vector<std::uint32_t>& gang : graph.gangs) {
    // All of it is of one partition.
    if (!number_of.contains(gang.front())) continue;
    std::vector<std::uint32_t> members;
    for (const std::uint32_t place : gang) members.push_back(number_of.at(place));
    TRY(tasks.add_gang(members));
  }
  const std::uint64_t first_tag = tasks_->tasks() + 1;
  TaskGraph::Plan plan = TRY(tasks.plan(first_tag));
  // Those of other partitions have other numbers: there are no more gangs than tasks.
  for (Record& record : plan.records)
    if ((record.flags & wire::task_flag::gang) != 0)
      record.gang += static_cast<std::uint32_t>(first_tag);
  return plan;
}

bool GraphRun::may_be_cheaper(const Record& record) const {
  return options_.allow_cheaper || (record.flags & wire::task_flag::may_be_cheaper) != 0;
}

// ---- when they have run ----

Result<void> GraphRun::take(const Completion& done) {
  auto found = tagged_.upper_bound(done.tag);
  if (found == tagged_.begin())
    return error(Code::protocol_error, "the scheduler finished an unknown task");
  const Parts::iterator part = (--found)->second;
  if (done.tag - part->first_tag >= (part->probing ? 1 : part->ended.size()))
    return error(Code::protocol_error, "the scheduler finished an unknown task");
  --running_tasks_;
  if (!part->probing) part->ended[done.tag - part->first_tag] = done;
  if (--part->unfinished != 0) return {};
  tagged_.erase(found);
  if (!part->probing) return finish(part);
  part->probing = false;
  return probed(part, done);
}

Result<void> GraphRun::probed(Parts::iterator part, const Completion& done) {
  if (done.status == 0) return await_turn(part, done.result);
  const Status why = tasks_->failure(done);
  return fail(part, why, fault_of(why.code()));
}

Result<void> GraphRun::finish(Parts::iterator part) {
  PartitionReport& report = reports_[part->number];
  used_bytes_ -= part->bytes;
  report.tasks = reports_of(*part);
  report.ended_ns = report.submitted_ns;
  for (const TaskReport& task : report.tasks) {
    // Of one that failed nobody says when: by now.
    const std::uint64_t ended_ns = task.done.status == 0 ? task.done.end_ns : now_ns();
    report.ended_ns = std::max(report.ended_ns, ended_ns);
  }
  if (is_to_begin_anew(report)) {
    TRY(let_go(*part));
    if (source_.input()) TRY(lend_input(*part));
    waiting_.push_front(part);
    return {};
  }
  const std::vector<GraphFile::Task>& tasks = source_.graph().tasks;
  for (std::size_t i = 0; i < report.tasks.size(); ++i) {
    const TaskReport& task = report.tasks[i];
    // Those that wait for one that failed are cancelled, and say nothing of why.
    if (task.done.status == 0 || (report.failure && is_code(task, Code::cancelled))) continue;
    if (!report.failure || report.failure->code() == Code::cancelled)
      report.failure = Status(static_cast<Code>(task.done.status),
                              tasks[report.places[i]].name + ": " + task.why);
  }
  if (report.failure) failed(report, fault_of(report.failure->code()));
  if (!report.failure && output_ != nullptr) TRY(keep(*part));
  TRY(let_go(*part));
  parts_.erase(part);
  return {};
}

std::vector<TaskReport> GraphRun::reports_of(const Part& part) {
  std::vector<TaskReport> all;
  std::vector<std::set<std::size_t>> parents = parents_of(part.plan);
  for (std::size_t i = 0; i < part.plan.position.size(); ++i) {
    const Completion& done = part.ended[part.plan.position[i]];
    const std::string why = done.status == 0 ? std::string() : tasks_->failure(done).message();
    const Record& record = source_.graph().tasks[reports_[part.number].places[i]].record;
    const auto cheaper = source_.graph().codelets[record.codelet].cheaper;
    const bool cheap = runs_cheaper_ && may_be_cheaper(record) && cheaper;
    all.push_back({.done = done,
                   .codelet = cheap ? *cheaper : record.codelet,
                   .why = why,
                   .parents = std::move(parents[i])});
  }
  return all;
}

/// Nothing is wrong but that something may have half run.
bool GraphRun::is_to_begin_anew(const PartitionReport& report) const {
  bool any = false;
  for (const TaskReport& task : report.tasks) {
    if (task.done.status == 0 || is_code(task, Code::cancelled)) continue;
    if (!is_code(task, Code::indeterminate)) return false;
    any = true;
  }
  return any && !has_deadline_ && report.attempts < most_runs;
}

Result<void> GraphRun::keep(const Part& part) {
  for (const auto& [place, memory] : part.memory) {
    const GraphFile::Buffer& buffer = graph_of(part).buffers[place];
    if (!buffer.keep) continue;
    const std::string name = output_name(source_, part.number, buffer.name);
    TRY(output_->add(name, memory.bytes().first(buffer.bytes)));
    reports_[part.number].outputs.push_back(name);
  }
  return {};
}

Result<void> GraphRun::let_go(Part& part) {
  std::set<std::uint32_t> registered;
  for (auto& [place, buffer] : part.buffers)
    if (const auto was = std::exchange(buffer, std::nullopt)) registered.insert(*was);
  if (const auto was = std::exchange(part.input_buffer, std::nullopt)) registered.insert(*was);
  TRY(tasks_->release(std::vector(registered.begin(), registered.end())));
  part.memory.clear();
  return {};
}

/// What a probe or a task has failed with says so.
GraphRun::Fault GraphRun::fault_of(Code failure) {
  return mapreduce_client::is_about_input(failure) ? Fault::input : Fault::run;
}

/// Before any of its tasks was submitted.
Result<void> GraphRun::fail(Parts::iterator part, const Status& why, Fault fault) {
  reports_[part->number].failure = why;
  failed(reports_[part->number], fault);
  TRY(let_go(*part));
  parts_.erase(part);
  return {};
}

/// The run goes on without a bad input, as long as it may; and where nothing is kept, what is left
/// of a graph that has begun is still of use.
void GraphRun::failed(PartitionReport& report, Fault fault) {
  const bool bad_input = source_.input() && fault == Fault::input;
  if (bad_input && skipped_ < options_.max_bad_inputs) {
    report.skipped = true;
    ++skipped_;
    return;
  }
  if (bad_input && options_.max_bad_inputs != 0)
    report.failure = Status(report.failure->code(),
                            fmt::format("one bad input more than the {} that may be skipped: {}",
                                        options_.max_bad_inputs, report.failure->message()));
  failed_ = failed_ || output_ != nullptr || report.attempts == 0;
}

// ---- afterwards ----

Result<void> GraphRun::follow_placements(Client& scheduler) {
  places_.emplace(scheduler,
                  TRY(kernel_.call<proto::kernel::JobInfo>({kernel_.job()})).reply.job_id);
  return places_->begin(now_ns());
}

Result<void> GraphRun::ask_for_placements(Client& scheduler) {
  const bool ran = std::ranges::any_of(reports_, [](const PartitionReport& report) {
    return std::ranges::any_of(report.tasks,
                               [](const TaskReport& task) { return task.done.start_ns != 0; });
  });
  if (!ran) return {};
  devices_ = TRY(list_devices(scheduler));
  const std::vector<std::string> names = names_of(devices_);
  if (!places_) {
    places_.emplace(scheduler,
                    TRY(kernel_.call<proto::kernel::JobInfo>({kernel_.job()})).reply.job_id);
    TRY(places_->begin(submitted_ns_));
  }
  TRY(places_->take());
  for (PartitionReport& report : reports_)
    for (TaskReport& task : report.tasks) {
      task.placed = task.done.start_ns != 0 ? places_->of(task.done.tag) : std::nullopt;
      if (!task.placed) continue;
      task.device = device_name(names, task.placed->device);
      if (task.placed->is_predicted)
        task.predicted_s = static_cast<double>(task.placed->predicted_ns) / 1e9;
    }
  return {};
}

}  // namespace aios::ctl
