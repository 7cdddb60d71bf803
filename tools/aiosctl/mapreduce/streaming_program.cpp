#include "tools/aiosctl/mapreduce/streaming_program.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "tools/aiosctl/instances/confined_program.hpp"

namespace aios::ctl {

namespace {

constexpr std::size_t max_line_bytes = 64u << 10;
constexpr std::size_t max_told_bytes = 300;
constexpr std::string_view counter_prefix = "reporter:counter:";
constexpr std::string_view status_prefix = "reporter:status:";

}  // namespace

void StreamingReports::take(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view part = bytes.substr(0, end);
    pending_.append(part.substr(0, max_line_bytes - std::min(max_line_bytes, pending_.size())));
    if (end == bytes.npos) return;
    line(pending_);
    pending_.clear();
    bytes.remove_prefix(end + 1);
  }
}

void StreamingReports::line(std::string_view text) {
  if (text.starts_with(counter_prefix))
    count(text.substr(counter_prefix.size()));
  else if (text.starts_with(status_prefix))
    status_ = text.substr(status_prefix.size(), max_told_bytes);
  else if (!text.empty())
    last_line_ = text.substr(0, max_told_bytes);
}

void StreamingReports::count(std::string_view text) {
  const std::size_t group_end = text.find(','), name_end = text.rfind(',');
  if (group_end == text.npos || name_end == group_end) return;
  std::string_view amount = text.substr(name_end + 1);
  while (amount.starts_with(' ')) amount.remove_prefix(1);
  std::int64_t value = 0;
  const auto parsed = std::from_chars(amount.data(), amount.data() + amount.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != amount.data() + amount.size()) return;
  std::string name(text.substr(0, name_end));
  name[group_end] = '.';
  const auto found = counters_.find(name);
  if (found == counters_.end() && counters_.size() == max_counters) return;
  std::int64_t& counter = counters_[std::move(name)];
  if (__builtin_add_overflow(counter, value, &counter)) counter = value < 0 ? INT64_MIN : INT64_MAX;
}

std::string StreamingReports::last_line() const {
  return pending_.empty() ? last_line_ : pending_.substr(0, max_told_bytes);
}

StreamingProgram::StreamingProgram(StreamingProgram&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      pidfd_(std::move(other.pidfd_)),
      errors_(std::move(other.errors_)),
      reports_(std::move(other.reports_)) {}

Result<StreamingProgram> StreamingProgram::start(
    const std::string& command, const std::vector<std::string>& files,
    const std::map<std::string, std::string>& environment, const Fd& input, const Fd& output) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("make a pipe", errno);
  StreamingProgram program;
  program.errors_ = Fd(ends[0]);
  const Fd writer(ends[1]);
  ::fcntl(program.errors_.get(), F_SETFL, O_NONBLOCK);
  Confinement confinement{.profile = proto::sandbox::Profile::streaming, .read = files};
  std::vector<std::string> more;
  for (const auto& [name, value] : environment) more.push_back(name + "=" + value);
  confinement.environment = TRY(shown_environment(more));
  program.pid_ = TRY(start_confined({"sh", "-c", command}, confinement, [&] {
    const bool ready = ::dup2(input.get(), STDIN_FILENO) >= 0 &&
                       ::dup2(output.get(), STDOUT_FILENO) >= 0 &&
                       ::dup2(writer.get(), STDERR_FILENO) >= 0;
    return ready ? 0 : 1;
  }));
  program.pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, program.pid_, 0)));
  if (!program.pidfd_.valid()) return errno_error("watch " + command, errno);
  return program;
}

void StreamingProgram::read_errors() {
  char buffer[16u << 10];
  for (ssize_t n = 0; (n = ::read(errors_.get(), buffer, sizeof buffer)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;
    reports_.take({buffer, static_cast<std::size_t>(n)});
  }
}

int StreamingProgram::finish() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
  read_errors();  // whoever could write to it is gone with process 1
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

StreamingProgram::~StreamingProgram() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace aios::ctl
