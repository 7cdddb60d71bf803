#include "tools/aiosctl/mapreduce/streaming_job.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <sstream>

#include "abi/lib/mapreduce/announcement.hpp"
#include "abi/lib/mapreduce/input.hpp"
#include "abi/lib/mapreduce/objects.hpp"
#include "abi/lib/mapreduce/output.hpp"
#include "tools/aiosctl/mapreduce/streaming_program.hpp"

namespace aios::ctl {

namespace {

namespace fs = std::filesystem;
namespace client = mapreduce_client;
using Environment = std::map<std::string, std::string>;

constexpr std::uint32_t max_attempts = 4;
constexpr std::uint64_t progress_ns = proto::mapreduce::progress_interval_ns;
constexpr std::size_t chunk_bytes = 1u << 20;

/// What a word of the command names and what the user named, as far as it is there.
std::vector<std::string> shown_files(const StreamingOptions& options) {
  std::vector<std::string> files = options.files;
  for (const std::string& command : {options.mapper, options.reducer}) {
    std::istringstream words(command);
    std::error_code ignored;
    for (std::string word; words >> word;)
      if (fs::is_regular_file(word, ignored)) files.push_back(word);
  }
  return files;
}

Result<std::size_t> read_some(const Fd& fd, std::string& buffer, std::uint64_t offset,
                              std::size_t bytes, const std::string& path) {
  buffer.resize(bytes);
  ssize_t got;
  do {
    got = ::pread(fd.get(), buffer.data(), bytes, static_cast<off_t>(offset));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno_error(path, errno);
  buffer.resize(static_cast<std::size_t>(got));
  return static_cast<std::size_t>(got);
}

Result<void> write_all(const Fd& fd, std::string_view bytes, const std::string& what) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno_error(what, errno);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

/// Just behind the first newline from `offset` on; the file's end when there is none.
Result<std::uint64_t> next_line(const Fd& fd, std::uint64_t offset, const std::string& path) {
  std::string buffer;
  while (true) {
    if (TRY(read_some(fd, buffer, offset, chunk_bytes, path)) == 0) return offset;
    const std::size_t found = buffer.find('\n');
    if (found != buffer.npos) return offset + found + 1;
    offset += buffer.size();
  }
}

/// The lines that begin in the piece, each ended by a newline, in a file of their own in memory.
Result<Fd> lines_of(const client::InputFile& file, const client::Piece& piece) {
  const Fd fd(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return errno_error(file.name(), errno);
  std::uint64_t at = piece.offset == 0 ? 0 : TRY(next_line(fd, piece.offset - 1, file.name()));
  const std::uint64_t piece_end = piece.offset + piece.length;
  const std::uint64_t end = at >= piece_end ? at : TRY(next_line(fd, piece_end - 1, file.name()));
  Fd lines(::memfd_create("lines", MFD_CLOEXEC));
  if (!lines.valid()) return errno_error("make a file in memory", errno);
  std::string buffer;
  char last = '\n';
  while (at < end) {
    const std::size_t wanted = std::min<std::uint64_t>(chunk_bytes, end - at);
    if (TRY(read_some(fd, buffer, at, wanted, file.name())) == 0)
      return error(Code::source_changed, file.name() + ": became shorter since the job began");
    TRY(write_all(lines, buffer, "a file in memory"));
    at += buffer.size();
    last = buffer.back();
  }
  if (last != '\n') TRY(write_all(lines, "\n", "a file in memory"));
  if (::lseek(lines.get(), 0, SEEK_SET) != 0) return errno_error("a file in memory", errno);
  return lines;
}

/// What one program of a stage is given.
struct Part {
  std::string what;  ///< for messages: "FILE, bytes 0 to 100"
  Environment environment;
  std::function<Result<Fd>()> input;
  std::string output;  ///< the path of what it writes
};

/// All mappers, or all reducers: as many at once as there are threads, each until it succeeds.
class Stage {
 public:
  Stage(const char* role, std::string command, const StreamingOptions& options,
        std::vector<std::string> files)
      : role_(role), command_(std::move(command)), options_(options), files_(std::move(files)) {}

  /// `watch` is called now and then, with how many parts are done; false cancels.
  Result<void> run(const std::vector<Part>& parts, const std::function<bool(std::size_t)>& watch);
  std::uint64_t attempts() const { return attempts_; }
  const std::map<std::string, std::int64_t>& counters() const { return counters_; }

 private:
  struct Running {
    std::size_t part;
    std::uint32_t attempt;
    Deadline deadline;
    StreamingProgram program;
  };
  struct Waiting {
    std::size_t part;
    std::uint32_t attempt;
  };

  Result<void> start(const Part& part, const Waiting& next);
  void wait();
  Result<bool> look(const Part& part, Running& one);
  Result<void> failed(const Part& part, const Running& one, const std::string& how);

  const char* role_;
  std::string command_;
  const StreamingOptions& options_;
  std::vector<std::string> files_;
  std::deque<Waiting> waiting_;
  std::list<Running> running_;
  std::map<std::string, std::int64_t> counters_;
  std::uint64_t attempts_ = 0;
};

Result<void> Stage::run(const std::vector<Part>& parts,
                        const std::function<bool(std::size_t)>& watch) {
  for (std::size_t i = 0; i < parts.size(); ++i) waiting_.push_back({i, 1});
  while (!waiting_.empty() || !running_.empty()) {
    while (!waiting_.empty() && running_.size() < options_.job.threads) {
      const Waiting next = waiting_.front();
      waiting_.pop_front();
      TRY(start(parts[next.part], next));
    }
    wait();
    for (auto one = running_.begin(); one != running_.end();)
      one = TRY(look(parts[one->part], *one)) ? running_.erase(one) : std::next(one);
    if (!watch(parts.size() - waiting_.size() - running_.size()))
      return error(Code::cancelled, "the job was cancelled");
  }
  return {};
}

Result<void> Stage::start(const Part& part, const Waiting& next) {
  const Fd input = TRY(part.input());
  const Fd output(::open(part.output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!output.valid()) return errno_error(part.output, errno);
  const std::uint64_t limit = options_.job.task_limit_ns;
  ++attempts_;
  auto program = TRY(StreamingProgram::start(command_, files_, part.environment, input, output));
  running_.push_back({next.part, next.attempt,
                      limit == 0 ? Deadline::never() : Deadline::after(limit), std::move(program)});
  return {};
}

/// Until something ends or speaks, a limit is reached, or it is time to show progress.
void Stage::wait() {
  std::vector<pollfd> fds;
  int timeout_ms = static_cast<int>(progress_ns / 1'000'000);
  for (const Running& one : running_) {
    fds.push_back({one.program.ended_fd(), POLLIN, 0});
    fds.push_back({one.program.errors_fd(), POLLIN, 0});
    const int left_ms = one.deadline.poll_timeout_ms();
    if (left_ms >= 0) timeout_ms = std::min(timeout_ms, left_ms);
  }
  ::poll(fds.data(), fds.size(), timeout_ms);
}

/// True when this attempt is over.
Result<bool> Stage::look(const Part& part, Running& one) {
  one.program.read_errors();
  pollfd ended{one.program.ended_fd(), POLLIN, 0};
  if (::poll(&ended, 1, 0) <= 0) {
    if (!one.deadline.passed()) return false;
    TRY(failed(part, one, "took longer than its limit"));
    return true;
  }
  const int code = one.program.finish();
  if (code != 0) {
    TRY(failed(part, one,
               code > 128 ? fmt::format("was ended by signal {}", code - 128)
                          : fmt::format("ended with exit code {}", code)));
    return true;
  }
  for (const auto& [name, value] : one.program.reports().counters()) counters_[name] += value;
  return true;
}

Result<void> Stage::failed(const Part& part, const Running& one, const std::string& how) {
  if (one.attempt < max_attempts) {
    waiting_.push_back({one.part, one.attempt + 1});
    return {};
  }
  const std::string said = one.program.reports().last_line();
  return error(Code::crashed, fmt::format("the {} of {} {}, {} times{}{}", role_, part.what, how,
                                          max_attempts, said.empty() ? "" : "; it said: ", said));
}

/// A folder within the job's own, removed with all in it.
class Scratch {
 public:
  static Result<Scratch> create(const std::string& output) {
    Scratch scratch(output + "/_temporary/streaming");
    std::error_code failed;
    if (!fs::create_directory(scratch.path_, failed))
      return errno_error(scratch.path_, failed.value());
    return scratch;
  }
  Scratch(Scratch&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  std::string file(const char* kind, std::size_t number) const {
    return fmt::format("{}/{}-{:05}", path_, kind, number);
  }
  std::string folder() const { return path_ + "/sorted"; }

 private:
  explicit Scratch(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

class Job {
 public:
  Job(Kernel& kernel, Handle port, const StreamingOptions& options,
      const client::OnProgress& on_progress)
      : kernel_(kernel), port_(port), options_(options), on_progress_(on_progress) {}

  Result<client::Report> run();

 private:
  Result<void> map(const Scratch& scratch);
  Result<client::Report> shuffle(const Scratch& scratch);
  Result<void> reduce(const Scratch& scratch, client::Report& report);
  Result<void> copy_part(std::uint32_t number, const std::string& path);
  void add(const Stage& stage);
  Result<client::Report> commit(client::Report report);

  Kernel& kernel_;
  Handle port_;
  const StreamingOptions& options_;
  const client::OnProgress& on_progress_;
  std::uint64_t begin_ns_ = now_ns();
  std::vector<client::InputFile> files_;
  client::SplitPlan plan_;
  std::unique_ptr<client::OutputFolder> output_;
  std::vector<std::string> mapped_;
  std::map<std::string, std::int64_t> counters_;
  std::uint64_t programs_ = 0;
  std::uint64_t attempts_ = 0;
};

Result<client::Report> Job::run() {
  client::Report report;
  {
    client::Inputs inputs(kernel_);
    files_ = TRY(inputs.find(options_.job.inputs));
    output_ = TRY(client::OutputFolder::create(options_.job.output, options_.job.reducers));
    client::Announcement announcement(kernel_, port_, options_.job, on_progress_);
    TRY(announcement.begin(client::total_bytes(files_)));
    const auto unpacked = TRY(announcement.prepare(inputs, files_, *output_));
    announcement.take();  // mappers are no job of the service's
    // As in Hadoop, a mapper reads of one file only.
    plan_ = client::plan_splits(files_, options_.job.threads, 1);
    const Scratch scratch = TRY(Scratch::create(options_.job.output));
    TRY(map(scratch));
    report = TRY(shuffle(scratch));
    TRY(reduce(scratch, report));
  }
  return commit(std::move(report));
}

void Job::add(const Stage& stage) {
  attempts_ += stage.attempts();
  for (const auto& [name, value] : stage.counters()) counters_[name] += value;
}

Result<void> Job::map(const Scratch& scratch) {
  std::vector<Part> parts;
  for (const client::Piece& piece : plan_.pieces) {
    const client::InputFile& file = files_[piece.file];
    mapped_.push_back(scratch.file("mapped", parts.size()));
    parts.push_back(
        {fmt::format("{}, bytes {} to {}", file.name(), piece.offset, piece.offset + piece.length),
         {{"mapreduce_task_is_map", "true"},
          {"mapreduce_task_partition", std::to_string(parts.size())},
          {"mapreduce_map_input_file", file.name()},
          {"mapreduce_map_input_start", std::to_string(piece.offset)},
          {"mapreduce_map_input_length", std::to_string(piece.length)}},
         [&file, &piece] { return lines_of(file, piece); },
         mapped_.back()});
  }
  programs_ += parts.size();
  Stage stage("mapper", options_.mapper, options_, shown_files(options_));
  proto::mapreduce::Progress progress{};
  TRY(stage.run(parts, [&](std::size_t done) {
    progress.mapped_bytes = plan_.input_bytes * done / std::max<std::size_t>(parts.size(), 1);
    return on_progress_(progress, plan_.input_bytes);
  }));
  add(stage);
  return {};
}

Result<client::Report> Job::shuffle(const Scratch& scratch) {
  client::Options sort = options_.job;
  sort.inputs = mapped_;
  sort.output = scratch.folder();
  sort.arguments = {};
  return client::run(kernel_, port_, sort, on_progress_);
}

Result<void> Job::reduce(const Scratch& scratch, client::Report& report) {
  std::vector<Part> parts;
  for (std::uint32_t i = 0; i < options_.job.reducers; ++i) {
    const std::string sorted = fmt::format("{}/part-{:05}", scratch.folder(), i);
    if (options_.reducer.empty()) {
      TRY(copy_part(i, sorted));
      continue;
    }
    parts.push_back(
        {fmt::format("part {}", i),
         {{"mapreduce_task_is_map", "false"}, {"mapreduce_task_partition", std::to_string(i)}},
         [sorted]() -> Result<Fd> {
           Fd fd(::open(sorted.c_str(), O_RDONLY | O_CLOEXEC));
           if (!fd.valid()) return errno_error(sorted, errno);
           return fd;
         },
         scratch.file("reduced", i)});
  }
  programs_ += parts.size();
  Stage stage("reducer", options_.reducer, options_, shown_files(options_));
  TRY(stage.run(parts,
                [&](std::size_t) { return on_progress_(report.progress, plan_.input_bytes); }));
  add(stage);
  for (std::uint32_t i = 0; i < parts.size(); ++i) TRY(copy_part(i, parts[i].output));
  return {};
}

Result<void> Job::copy_part(std::uint32_t number, const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return errno_error(path, errno);
  std::string buffer;
  for (std::uint64_t at = 0; TRY(read_some(fd, buffer, at, chunk_bytes, path)) != 0;
       at += buffer.size())
    TRY(output_->append(number, std::as_bytes(std::span(buffer))));
  return {};
}

Result<client::Report> Job::commit(client::Report report) {
  report.input_files = files_.size();
  report.input_bytes = plan_.input_bytes;
  report.progress.tasks += programs_;
  report.progress.attempts += attempts_;
  for (const auto& [name, value] : counters_)
    report.counters.emplace_back(name,
                                 static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0)));
  client::ManifestFacts facts;
  facts.job = options_.job.label;
  facts.arguments = {options_.mapper, options_.reducer};
  facts.inputs = options_.job.inputs;
  facts.input_files = report.input_files;
  facts.input_bytes = report.input_bytes;
  facts.records = report.progress.records;
  facts.distinct_keys = report.progress.distinct_keys;
  facts.counters = report.counters;
  TRY(output_->commit(facts));
  report.output_bytes = output_->written_bytes();
  report.seconds_ns = now_ns() - begin_ns_;
  return report;
}

}  // namespace

Result<client::Report> run_streaming(Kernel& kernel, Handle port, const StreamingOptions& options,
                                     const client::OnProgress& on_progress) {
  return Job(kernel, port, options, on_progress).run();
}

}  // namespace aios::ctl
