#include "drivers/gpu/probe.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <sstream>

#include "drivers/gpu/open_gpu.hpp"

namespace aios::gpu {

namespace {

constexpr std::size_t max_text_bytes = 64u << 10;
/// The child has what the driver is about to give up.
constexpr std::string_view begin_line = "begin";
constexpr int begin_limit_ms = 2000;
constexpr std::string_view end_line = "end";
constexpr std::string_view note_word = "note ";

/// In the child: says what is found, a line each, and that this is all.
[[noreturn]] void look(int out, unsigned limit_s) {
  // Nothing of the driver's is of use here, and its sockets must not seem to live on.
  ::dup2(out, STDIN_FILENO);
  ::syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0u);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The driver changes its root; this process keeps the host's. Where that is not possible the
  // driver keeps it, too.
  (void)::unshare(CLONE_NEWNS);
  const std::string begin = std::string(begin_line) + "\n";
  (void)!::write(STDIN_FILENO, begin.data(), begin.size());
  ::signal(SIGALRM, SIG_DFL);
  ::alarm(limit_s);
  std::vector<std::string> notes;
  std::string text;
  for (const DeviceInfo& info : discover(notes)) text += to_line(info) + "\n";
  for (std::string& note : notes) {
    std::replace(note.begin(), note.end(), '\n', ' ');
    text += std::string(note_word) + note + "\n";
  }
  text += std::string(end_line) + "\n";
  // A pipe takes as much at once; what is cut off ends without the last line.
  (void)!::write(STDIN_FILENO, text.data(), std::min(text.size(), max_text_bytes));
  ::_exit(0);
}

template <class T>
bool parse(const std::string& text, T& number) {
  const char* const end = text.data() + text.size();
  return std::from_chars(text.data(), end, number).ptr == end && !text.empty();
}

}  // namespace

std::string to_line(const DeviceInfo& info) {
  std::ostringstream line;
  line << info.kind << '\t' << info.backend << '\t' << info.uuid << '\t' << info.multiprocessors
       << '\t' << info.memory_bytes << '\t' << info.shares_memory << '\t' << info.emulated << '\t'
       << info.model;
  std::string text = line.str();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::optional<DeviceInfo> from_line(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream stream(line);
  for (std::string field; std::getline(stream, field, '\t');) fields.push_back(field);
  DeviceInfo info;
  int shares = 0;
  int emulated = 0;
  if (fields.size() != 8 || !parse(fields[3], info.multiprocessors) ||
      !parse(fields[4], info.memory_bytes) || !parse(fields[5], shares) ||
      !parse(fields[6], emulated))
    return std::nullopt;
  info.kind = fields[0];
  info.backend = fields[1];
  info.uuid = fields[2];
  info.shares_memory = shares != 0;
  info.emulated = emulated != 0;
  info.model = fields[7];
  return info;
}

Result<std::unique_ptr<Probe>> Probe::start(EventLoop& loop, unsigned limit_s, Found found) {
  std::unique_ptr<Probe> probe(new Probe(loop, std::move(found)));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return errno_error("make a pipe", errno);
  probe->pipe_ = Fd(ends[0]);
  const Fd out(ends[1]);
  // Nobody waits for it.
  ::signal(SIGCHLD, SIG_IGN);
  const pid_t child = ::fork();
  if (child < 0) return errno_error("start looking for GPUs", errno);
  if (child == 0) look(out.get(), limit_s);
  pollfd begun{probe->pipe_.get(), POLLIN, 0};
  (void)::poll(&begun, 1, begin_limit_ms);
  TRY(loop.watch(probe->pipe_.get(), EPOLLIN,
                 [self = probe.get()](std::uint32_t) { self->read(); }));
  return probe;
}

Probe::~Probe() {
  if (pipe_.valid()) loop_.unwatch(pipe_.get());
}

void Probe::read() {
  char buffer[4096];
  const ssize_t count = ::read(pipe_.get(), buffer, sizeof buffer);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count > 0 && text_.size() < max_text_bytes) {
    text_.append(buffer, static_cast<std::size_t>(count));
    return;
  }
  finish();
}

void Probe::finish() {
  loop_.unwatch(pipe_.get());
  pipe_.reset();
  std::vector<DeviceInfo> devices;
  std::vector<std::string> notes;
  bool complete = false;
  std::istringstream lines(text_);
  for (std::string line; std::getline(lines, line);) {
    if (line == end_line)
      complete = true;
    else if (line.starts_with(note_word))
      notes.push_back(line.substr(note_word.size()));
    else if (line == begin_line)
      continue;
    else if (auto info = from_line(line))
      devices.push_back(std::move(*info));
  }
  if (!complete) notes.push_back("a GPU library hung or crashed while it looked for devices");
  found_(std::move(devices), std::move(notes));
}

}  // namespace aios::gpu
