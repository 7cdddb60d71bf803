#include "abi/lib/mapreduce/client.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <tuple>

#include "abi/include/aios/mapreduce/format.hpp"
#include "abi/lib/mapreduce/announcement.hpp"
#include "abi/lib/mapreduce/device_job.hpp"
#include "abi/lib/mapreduce/format.hpp"
#include "abi/lib/mapreduce/input.hpp"
#include "abi/lib/mapreduce/objects.hpp"
#include "abi/lib/mapreduce/output.hpp"
#include "abi/lib/mapreduce/unpack.hpp"
#include "abi/lib/module_file.hpp"
#include "abi/proto/scheduler.hpp"
#include "abi/runtime/client.hpp"

namespace aios::mapreduce_client {

namespace {

namespace wire = proto::mapreduce;
namespace engine = mapreduce::engine;

constexpr std::uint64_t call_ns = 10 * ns_per_s;
constexpr std::uint64_t module_alignment = 4096;
/// Of a job that lost the service or the scheduler: it begins anew, for nothing is committed yet.
constexpr std::uint32_t max_attempts = 3;
constexpr std::uint32_t memory_rights =
    rights::info | rights::send | rights::map_read | rights::map_write;
constexpr std::uint32_t job_rights = rights::info | rights::act | rights::send;

using Keep = std::function<bool()>;

/// What a job reads.
struct Input {
  InputFormat format{};
  std::vector<InputFile> files{};
  std::vector<std::byte> names{};  ///< by which reduce() knows the documents
};

/// One job of the service, without what it reads and where its output goes.
class Run {
 public:
  /// `listed` is the job, if it was announced.
  Run(Kernel& kernel, Handle port, const Options& options, const Input& input, OutputFolder& output,
      Announcement::Listed listed)
      : kernel_(kernel),
        options_(options),
        input_(input),
        files_(input.files),
        output_(output),
        client_(std::move(listed.client)),
        prepared_(listed.job) {
    if (client_ == nullptr)
      client_ = std::make_unique<Client>(kernel, nullptr, port, wire::Protocol::version,
                                         wire::Protocol::name);
    client_->on_disconnect([this] { lost_ = true; });
  }

  Result<Report> run(std::span<const std::byte> module, const OnProgress& on_progress,
                     const Keep& keep_going) {
    keep_going_ = &keep_going;
    plan_ = plan_splits(files_, options_.threads,
                        pieces_per_split(options_.threads, options_.open_files));
    TRY(align_pieces(input_.format, files_, plan_.pieces, keep_going));
    measure();
    return report(TRY(persist(module, on_progress)));
  }

 private:
  void measure();
  Result<void> submit(std::span<const std::byte> module);
  Result<wire::Next::Reply> serve(const OnProgress& on_progress);
  Result<wire::Next::Reply> persist(std::span<const std::byte> module,
                                    const OnProgress& on_progress);
  Result<void> begin_anew();
  Result<void> obey(const wire::Next::Reply& event);
  Result<void> lend(std::uint64_t until);
  Result<void> lend_split(std::uint64_t number, const Split& split, std::span<const Piece> pieces);
  Result<void> lend_sample();
  Result<void> add_segment(std::uint64_t bytes);
  Result<void> add_spare();
  Result<void> write(const wire::Next::Reply& event);
  std::unexpected<Status> why_failed();
  std::string place(const wire::Failure::Reply& failure) const;
  Result<void> skipped(const wire::Next::Reply& event);
  Report report(const wire::Next::Reply& last);
  std::vector<std::pair<std::string, std::uint64_t>> counters(const wire::Next::Reply& last) const;
  /// What a call that failed means for the person who waits.
  std::unexpected<Status> explained(const Status& status) const;

  Kernel& kernel_;
  const Options& options_;
  const Input& input_;
  const std::vector<InputFile>& files_;
  OutputFolder& output_;
  std::unique_ptr<Client> client_;
  std::uint64_t prepared_;
  const Keep* keep_going_ = nullptr;
  SplitPlan plan_;
  Region region_;
  bool lost_ = false;  ///< the service that knew the job is gone
  std::uint64_t job_ = 0;
  std::uint64_t lent_ = 0;
  std::deque<Region> segments_;
  std::vector<SkippedRecord> skipped_;
};

std::unexpected<Status> Run::explained(const Status& status) const {
  if (lost_)
    return error(Code::peer_closed,
                 "the MapReduce service died again and again; run the job again");
  return std::unexpected(status);
}

/// Pieces that begin where records do are not as long as they were planned.
void Run::measure() {
  for (Split& split : plan_.splits) {
    split.bytes = 0;
    for (const Piece& piece : std::span(plan_.pieces).subspan(split.first_piece, split.pieces))
      split.bytes += piece.length;
  }
}

Result<wire::Next::Reply> Run::persist(std::span<const std::byte> module,
                                       const OnProgress& on_progress) {
  for (std::uint32_t attempt = 1;; ++attempt) {
    const Result<void> submitted = submit(module);
    const Result<wire::Next::Reply> last =
        submitted ? serve(on_progress) : std::unexpected(submitted.error());
    if (last || last.error().code() != Code::peer_closed || attempt == max_attempts) return last;
    TRY(begin_anew());
  }
}

Result<void> Run::begin_anew() {
  client_->disconnect();  // the service forgets what is left of the job
  lost_ = false;
  prepared_ = 0;
  lent_ = 0;
  segments_.clear();
  skipped_.clear();
  return output_.clear();
}

Result<void> Run::submit(std::span<const std::byte> module) {
  std::string parameters;
  for (const std::string& argument : options_.arguments)
    parameters.append(argument).push_back('\0');
  if (parameters.size() > wire::max_parameter_bytes)
    return error(Code::too_large, "the job's arguments are longer than 64 KiB");
  wire::Submit::Request request{};
  const std::vector<std::byte>& names = input_.names;
  const std::uint64_t header_bytes = engine::job_header_bytes(options_.reducers);
  if (!names.empty()) request.names_offset = header_bytes;
  request.parameter_offset = header_bytes + names.size();
  request.parameter_bytes = parameters.size();
  request.module_offset = (request.parameter_offset + parameters.size() + module_alignment - 1) /
                          module_alignment * module_alignment;
  request.module_bytes = module.size();
  region_ = TRY(Region::create(kernel_, request.module_offset + module.size(), "mapreduce-job"));
  std::memcpy(region_.data() + engine::input_format_offset, &input_.format, sizeof input_.format);
  std::memcpy(region_.data() + header_bytes, names.data(), names.size());
  std::memcpy(region_.data() + request.parameter_offset, parameters.data(), parameters.size());
  std::memcpy(region_.data() + request.module_offset, module.data(), module.size());
  request.split_count = plan_.splits.size();
  request.input_bytes = plan_.input_bytes;
  request.memory_bytes =
      options_.memory_bytes != 0 ? options_.memory_bytes : default_memory_bytes();
  request.limit_ns = options_.task_limit_ns;
  request.max_bad_records = options_.max_bad_records;
  request.prepared = prepared_;
  request.reducers = options_.reducers;
  request.threads = options_.threads;
  request.label = decltype(request.label)::from(options_.label);
  const auto reply = client_->call_with_handles<wire::Submit>(
      request,
      {{region_.handle(), ObjectType::region, memory_rights, memory_rights, false},
       {kernel_.job(), ObjectType::job, job_rights, job_rights, false}},
      [](std::span<const Handle> numbers, wire::Submit::Request& filled) {
        filled.region = numbers[0];
        filled.job = numbers[1];
      },
      Deadline::after(call_ns));
  if (!reply) return explained(reply.error());
  job_ = reply->job;
  return {};
}

Result<wire::Next::Reply> Run::serve(const OnProgress& on_progress) {
  while (true) {
    const auto event = client_->call<wire::Next>({job_}, Deadline::after(call_ns));
    if (!event) return explained(event.error());
    const auto kind = static_cast<wire::EventKind>(event->kind);
    if (kind == wire::EventKind::failed) return why_failed();
    if (on_progress && !on_progress(event->progress, plan_.input_bytes)) {
      (void)client_->call<wire::Cancel>({job_}, Deadline::after(call_ns));
      return error(Code::cancelled, "the job was cancelled");
    }
    if (kind == wire::EventKind::done) return *event;
    if (const Result<void> obeyed = obey(*event); !obeyed) return explained(obeyed.error());
  }
}

Result<void> Run::obey(const wire::Next::Reply& event) {
  switch (static_cast<wire::EventKind>(event.kind)) {
    case wire::EventKind::lend_splits:
      return lend(event.number);
    case wire::EventKind::lend_sample:
      return lend_sample();
    case wire::EventKind::record_skipped:
      return skipped(event);
    case wire::EventKind::add_segment:
      return add_segment(event.bytes);
    case wire::EventKind::add_spare:
      return add_spare();
    case wire::EventKind::write_output:
      return write(event);
    default:
      return {};
  }
}

Result<void> Run::lend(std::uint64_t until) {
  for (; lent_ < std::min<std::uint64_t>(until, plan_.splits.size()); ++lent_) {
    const Split& split = plan_.splits[lent_];
    TRY(lend_split(lent_, split, std::span(plan_.pieces).subspan(split.first_piece, split.pieces)));
  }
  return {};
}

Result<void> Run::lend_sample() {
  std::vector<Piece> pieces = plan_sample(files_);
  TRY(align_pieces(input_.format, files_, pieces, *keep_going_));
  Split sample{};
  for (const Piece& piece : pieces) sample.bytes += piece.length;
  return lend_split(wire::sample_split, sample, pieces);
}

Result<void> Run::lend_split(std::uint64_t number, const Split& split,
                             std::span<const Piece> pieces) {
  const std::vector<Handle> channels = TRY(lend_pieces(kernel_, files_, pieces));
  std::vector<HandleToSend> handles;
  constexpr std::uint32_t use = rights::info | rights::send;
  for (const Handle channel : channels)
    handles.push_back({channel, ObjectType::file, use, use | rights::map_read, true});
  wire::Lend::Request request{};
  request.job = job_;
  request.split = number;
  request.bytes = split.bytes;
  request.first_document = split.first_document;
  request.pieces = static_cast<std::uint32_t>(pieces.size());
  request.channel_count = static_cast<std::uint32_t>(channels.size());
  TRY(client_->call_with_handles<wire::Lend>(
      request, std::move(handles),
      [](std::span<const Handle> numbers, wire::Lend::Request& filled) {
        std::copy(numbers.begin(), numbers.end(), filled.channels);
      },
      Deadline::after(call_ns)));
  return {};
}

Result<void> Run::add_segment(std::uint64_t bytes) {
  Result<Region> region = Region::create(kernel_, bytes, "mapreduce");
  if (!region)
    return error(region.error().code(), "no memory for the job: " + region.error().message() +
                                            "; run it with a smaller --memory-mb");
  segments_.push_back(*std::move(region));
  const Region& added = segments_.back();
  TRY(client_->call_with_handles<wire::AddSegment>(
      {job_, 0}, {{added.handle(), ObjectType::region, memory_rights, memory_rights, false}},
      [](std::span<const Handle> numbers, wire::AddSegment::Request& filled) {
        filled.region = numbers[0];
      },
      Deadline::after(call_ns)));
  return {};
}

/// Who may make no jobs has no second attempts.
Result<void> Run::add_spare() {
  const auto made = kernel_.call<proto::kernel::JobCreate>(
      {kernel_.job(), proto::kernel::Name::from("mr-spare"), {}});
  if (!made) return {};
  TRY(client_->call_with_handles<wire::AddSpare>(
      {job_, 0}, {{made->reply.job, ObjectType::job, job_rights, job_rights, true}},
      [](std::span<const Handle> numbers, wire::AddSpare::Request& filled) {
        filled.spare = numbers[0];
      },
      Deadline::after(call_ns)));
  return {};
}

Result<void> Run::write(const wire::Next::Reply& event) {
  if (event.segment >= segments_.size() || event.partition >= options_.reducers)
    return error(Code::protocol_error, "the MapReduce service named output that is not there");
  const std::span<const std::byte> memory = segments_[event.segment].bytes();
  if (event.bytes > memory.size() || event.offset > memory.size() - event.bytes)
    return error(Code::protocol_error, "the MapReduce service named output outside its segment");
  TRY(output_.append(event.partition, memory.subspan(event.offset, event.bytes)));
  TRY(client_->call<wire::Written>({job_, event.number}, Deadline::after(call_ns)));
  return {};
}

Result<void> Run::skipped(const wire::Next::Reply& event) {
  if (event.number >= plan_.splits.size() || event.partition >= plan_.splits[event.number].pieces)
    return error(Code::protocol_error, "the MapReduce service skipped a record outside the input");
  const Piece& piece = plan_.pieces[plan_.splits[event.number].first_piece + event.partition];
  skipped_.push_back({files_[piece.file].name(), event.offset, static_cast<Code>(event.segment)});
  return {};
}

/// "FILE, at byte N: " for a failure at a place in the input.
std::string Run::place(const wire::Failure::Reply& failure) const {
  if (failure.piece == wire::Failure::no_piece || failure.split >= plan_.splits.size()) return {};
  const Split& split = plan_.splits[failure.split];
  if (failure.piece >= split.pieces) return {};
  const Piece& piece = plan_.pieces[split.first_piece + failure.piece];
  return files_[piece.file].name() + ", at byte " + std::to_string(failure.offset) + ": ";
}

std::unexpected<Status> Run::why_failed() {
  const auto failure = client_->call<wire::Failure>({job_}, Deadline::after(call_ns));
  if (!failure) return explained(failure.error());
  const std::string about = failure->in_module != 0 ? options_.label + ": " : place(*failure);
  return error(static_cast<Code>(failure->status), about + std::string(failure->text.view()));
}

std::vector<std::pair<std::string, std::uint64_t>> Run::counters(
    const wire::Next::Reply& last) const {
  engine::Description description;
  std::memcpy(&description, region_.data(), sizeof description);
  std::vector<std::pair<std::string, std::uint64_t>> all;
  const std::uint32_t count = std::min(description.counter_count, engine::max_counters);
  for (std::uint32_t i = 0; i < count; ++i) {
    const char* name = description.counter_names[i];
    all.emplace_back(std::string(name, ::strnlen(name, engine::max_counter_name_bytes)),
                     last.counters[i]);
  }
  return all;
}

Report Run::report(const wire::Next::Reply& last) {
  Report report;
  report.input_files = files_.size();
  report.input_bytes = plan_.input_bytes;
  report.progress = last.progress;
  report.counters = counters(last);
  report.parts = options_.reducers;
  report.skipped = std::move(skipped_);
  return report;
}

/// A job as the user sees it: one of the service, or several of which each reads what the one
/// before it wrote, and one output, which appears when all are done.
class Job {
 public:
  Job(Kernel& kernel, Handle port, const Options& options, const OnProgress& on_progress)
      : kernel_(kernel), port_(port), options_(options), on_progress_(on_progress) {}

  Result<Report> run();

 private:
  using Modules = std::vector<std::vector<std::byte>>;

  Result<Modules> read_modules() const;
  Result<void> run_stages(Input input, const Modules& modules, Announcement& announcement);
  Result<Report> run_stage(std::size_t number, const Input& input, OutputFolder& output,
                           std::span<const std::byte> module, Announcement::Listed listed);
  Result<Report> run_on_devices(const std::string& job, std::span<const std::byte> module);
  Stage stage(std::size_t number) const;
  void add(bool first, Report&& done);
  Result<Report> commit();

  Kernel& kernel_;
  Handle port_;
  const Options& options_;
  const OnProgress& on_progress_;
  const std::uint64_t begin_ns_ = now_ns();
  std::unique_ptr<OutputFolder> output_;
  Report report_;
};

/// Done anew like any other when the scheduler dies: nothing is committed before its end.
Result<Report> Job::run_on_devices(const std::string& job, std::span<const std::byte> module) {
  for (std::uint32_t attempt = 1;; ++attempt) {
    Result<Report> report = run_device_job(kernel_, port_, job, module, options_, on_progress_);
    if (report || report.error().code() != Code::peer_closed || attempt == max_attempts)
      return report;
  }
}

Result<Report> Job::run() {
  const Modules modules = TRY(read_modules());
  if (const auto job = device_job_of(modules[0])) return run_on_devices(*job, modules[0]);
  Input input;
  input.format = TRY(parse_input_format(options_.input_format, options_.field));
  {
    Inputs inputs(kernel_);
    input.files = TRY(inputs.find(options_.inputs));
    output_ = TRY(OutputFolder::create(options_.output, options_.reducers));
    Announcement announcement(kernel_, port_, options_, on_progress_);
    TRY(announcement.begin(total_bytes(input.files)));
    const auto unpacked = TRY(announcement.prepare(inputs, input.files, *output_));
    input.names = document_names(input.files);
    TRY(run_stages(std::move(input), modules, announcement));
  }
  return commit();
}

Result<Job::Modules> Job::read_modules() const {
  Modules modules;
  for (std::size_t i = 0; i <= options_.then.size(); ++i) {
    modules.push_back(TRY(read_module_file(stage(i).module_path)));
    if (i != 0) TRY(check_later_stage(stage(i), modules.back()));
  }
  return modules;
}

Stage Job::stage(std::size_t number) const {
  if (number != 0) return options_.then[number - 1];
  return {options_.label, options_.module_path, options_.arguments};
}

/// The parts that a stage wrote, as the input of the next one.
Result<std::vector<InputFile>> parts_of(const OutputFolder& output, std::size_t stage) {
  std::vector<InputFile> files = TRY(walk_inputs(output.part_paths()));
  for (InputFile& file : files)
    file.known_as =
        "stage-" + std::to_string(stage) + file.path.substr(file.path.find_last_of('/'));
  return files;
}

/// What a stage wrote is removed with its folder, which is never committed, when the next one is
/// done.
Result<void> Job::run_stages(Input input, const Modules& modules, Announcement& announcement) {
  std::unique_ptr<OutputFolder> before;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    std::unique_ptr<OutputFolder> between;
    if (i + 1 < modules.size())
      between = TRY(OutputFolder::create(
          output_->temporary_path() + "/stage-" + std::to_string(i + 1), options_.reducers));
    add(i == 0, TRY(run_stage(i, input, between != nullptr ? *between : *output_, modules[i],
                              announcement.take())));
    if (between != nullptr) input.files = TRY(parts_of(*between, i + 1));
    input.format = {};
    input.format.later_stage = 1;
    before = std::move(between);
  }
  return {};
}

Result<Report> Job::run_stage(std::size_t number, const Input& input, OutputFolder& output,
                              std::span<const std::byte> module, Announcement::Listed listed) {
  const Stage stage = this->stage(number);
  Options options = options_;
  options.label = stage.label;
  options.arguments = stage.arguments;
  const bool chained = !options_.then.empty();
  if (chained && options_.on_stage) options_.on_stage(stage);
  const Keep keep_going = [&, bytes = total_bytes(input.files)] {
    return !on_progress_ || on_progress_({}, bytes);
  };
  Result<Report> done = Run(kernel_, port_, options, input, output, std::move(listed))
                            .run(module, on_progress_, keep_going);
  if (!done && chained)
    return error(done.error().code(), "stage " + std::to_string(number + 1) + " (" + stage.label +
                                          "): " + done.error().message());
  return done;
}

void Job::add(bool first, Report&& done) {
  const wire::Progress before = report_.progress;
  if (first) {
    report_.input_files = done.input_files;
    report_.input_bytes = done.input_bytes;
  }
  report_.parts = done.parts;
  report_.progress = done.progress;
  if (!first) report_.progress.records = before.records;
  report_.progress.tasks += before.tasks;
  report_.progress.attempts += before.attempts;
  report_.progress.spilled_bytes += before.spilled_bytes;
  report_.progress.skipped_records += before.skipped_records;
  for (auto& [name, value] : done.counters) {
    const auto same = std::find_if(report_.counters.begin(), report_.counters.end(),
                                   [&](const auto& one) { return one.first == name; });
    if (same != report_.counters.end())
      same->second += value;
    else
      report_.counters.emplace_back(std::move(name), value);
  }
  report_.skipped.insert(report_.skipped.end(), done.skipped.begin(), done.skipped.end());
}

Result<Report> Job::commit() {
  ManifestFacts facts;
  facts.job = options_.label;
  facts.arguments = options_.arguments;
  facts.inputs = options_.inputs;
  if (options_.input_format != "text") facts.input_format = options_.input_format;
  facts.field = options_.field;
  for (const Stage& later : options_.then) facts.then.emplace_back(later.label, later.arguments);
  facts.input_files = report_.input_files;
  facts.input_bytes = report_.input_bytes;
  facts.records = report_.progress.records;
  facts.distinct_keys = report_.progress.distinct_keys;
  facts.counters = report_.counters;
  std::stable_sort(report_.skipped.begin(), report_.skipped.end(),
                   [](const SkippedRecord& a, const SkippedRecord& b) {
                     return std::tie(a.file, a.offset) < std::tie(b.file, b.offset);
                   });
  facts.skipped = report_.skipped;
  TRY(output_->commit(facts));
  report_.output_bytes = output_->written_bytes();
  report_.seconds_ns = now_ns() - begin_ns_;
  return std::move(report_);
}

}  // namespace

std::uint64_t default_memory_bytes() {
  constexpr std::uint64_t most = 1ull << 30;
  const std::uint64_t machine = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                                static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return std::clamp(machine / 4, wire::min_memory_bytes, most);
}

Result<std::uint32_t> device_threads(Kernel& kernel) {
  namespace ps = proto::scheduler;
  const Handle port = TRY(kernel.startup(ps::Protocol::name)).handle;
  Client scheduler(kernel, nullptr, port, ps::Protocol::version, ps::Protocol::name);
  std::uint64_t threads = 0;
  for (std::uint64_t i = 0;; ++i) {
    const auto next = scheduler.call<ps::DeviceNext>({i}, Deadline::after(call_ns));
    if (!next && next.error().code() == Code::not_found) break;
    if (!next) return std::unexpected(next.error());
    if (next->device.backend.view() == "cpu") threads += next->device.threads;
    if (i + 1 >= next->device.count) break;
  }
  if (threads == 0) return error(Code::service_down, "the scheduler has no CPU device yet");
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(threads, wire::max_threads));
}

Result<Report> run(Kernel& kernel, Handle port, const Options& options,
                   const OnProgress& on_progress) {
  return Job(kernel, port, options, on_progress).run();
}

}  // namespace aios::mapreduce_client
