#include "drivers/gpu/look/prober.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "abi/runtime/time.hpp"
#include "drivers/gpu/look/helper_process.hpp"
#include "drivers/gpu/look/search.hpp"

namespace aios::gpu {

namespace {

constexpr std::size_t max_text_bytes = 64u << 10;
/// The end of the text that is told to the driver: a line of its own, not the end of one.
constexpr std::string_view last_line = "\nend\n";

// ---- the child and its children
// ------------------------------------------------------------------

/// One place and the process that looks there.
struct Look {
  Place place;
  Fd pipe;
  pid_t process = -1;
  std::string text;
};

[[noreturn]] void look_in_child(const Place& place, int out) {
  become_child(out);
  find_own_threads();
  const std::string text = to_text(look(place));
  write_all(STDIN_FILENO, std::string_view(text).substr(0, max_text_bytes));
  ::_exit(0);
}

Look start_look(const Place& place) {
  Look look{.place = place, .pipe = {}, .process = -1, .text = {}};
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return look;
  look.pipe = Fd(ends[0]);
  const Fd out(ends[1]);
  look.process = ::fork();
  if (look.process == 0) look_in_child(place, out.get());
  return look;
}

/// Reads what is there; closes the pipe when that is all.
void read_look(Look& look) {
  char buffer[4096];
  const ssize_t count = ::read(look.pipe.get(), buffer, sizeof buffer);
  if (count < 0 && errno == EINTR) return;
  if (count > 0 && look.text.size() < max_text_bytes)
    look.text.append(buffer, static_cast<std::size_t>(count));
  else
    look.pipe.reset();
}

void wait_for(std::vector<Look>& looks, Deadline deadline) {
  for (;;) {
    std::vector<pollfd> polled;
    std::vector<Look*> of;
    for (Look& look : looks) {
      if (!look.pipe.valid()) continue;
      polled.push_back({look.pipe.get(), POLLIN, 0});
      of.push_back(&look);
    }
    if (polled.empty()) return;
    const int ready = ::poll(polled.data(), polled.size(), deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return;
    for (std::size_t i = 0; i < polled.size(); ++i)
      if (polled[i].revents != 0) read_look(*of[i]);
  }
}

/// Ends what has not ended. One that cannot be ended, in the middle of a call that never returns,
/// is left to Linux.
Findings conclude(Look& look, unsigned limit_s) {
  if (look.process < 0)
    return {{}, {unusable(look.place, "could not be looked for: there is no process to do it")}};
  const bool late = look.pipe.valid();
  if (late) ::kill(look.process, SIGKILL);
  int status = 0;
  pid_t ended = 0;
  const Deadline deadline = Deadline::after(ns_per_s);
  while ((ended = ::waitpid(look.process, &status, WNOHANG)) == 0 && !deadline.passed())
    ::poll(nullptr, 0, 1);
  if (late)
    return {{},
            {unusable(look.place,
                      "did not say within " + std::to_string(limit_s) + " s what devices it has")}};
  if (auto findings = from_text(look.text)) return std::move(*findings);
  const std::string how = ended > 0 && WIFSIGNALED(status)
                              ? std::string("crashed while it was asked for its devices: ") +
                                    ::strsignal(WTERMSIG(status))
                              : "ended its process while it was asked for its devices";
  return {{}, {unusable(look.place, how)}};
}

Findings look_everywhere(unsigned limit_s) {
  std::vector<Look> looks;
  for (const Place& place : places()) looks.push_back(start_look(place));
  wait_for(looks, Deadline::after(limit_s * ns_per_s));
  std::vector<Findings> found;
  for (Look& look : looks) found.push_back(conclude(look, limit_s));
  return together(std::move(found));
}

void serve(unsigned limit_s) {
  for (;;) {
    char asked = 0;
    const ssize_t count = ::read(STDIN_FILENO, &asked, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    write_all(STDIN_FILENO, to_text(look_everywhere(limit_s)));
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
}

}  // namespace

// ---- the driver's side
// ---------------------------------------------------------------------------

Result<std::unique_ptr<Prober>> Prober::start(EventLoop& loop, unsigned limit_s, Found found) {
  std::unique_ptr<Prober> prober(new Prober(loop, std::move(found)));
  prober->socket_ = TRY(start_helper("aios-gpu-prober", [limit_s] { serve(limit_s); }));
  const int fd = prober->socket_.get();
  TRY(loop.watch(fd, EPOLLIN, [self = prober.get()](std::uint32_t) { self->read(); }));
  return prober;
}

Prober::~Prober() {
  if (socket_.valid()) loop_.unwatch(socket_.get());
}

void Prober::look() {
  if (looking_) return;
  looking_ = true;
  text_.clear();
  const char ask = '?';
  if (!socket_.valid() || ::write(socket_.get(), &ask, 1) != 1) loop_.post([this] { give_up(); });
}

void Prober::read() {
  char buffer[4096];
  const ssize_t count = ::read(socket_.get(), buffer, sizeof buffer);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0 || text_.size() > 16 * max_text_bytes) return give_up();
  text_.append(buffer, static_cast<std::size_t>(count));
  if (!("\n" + text_).ends_with(last_line)) return;
  auto findings = from_text(text_);
  if (!findings) return give_up();
  looking_ = false;
  found_(std::move(*findings));
}

void Prober::give_up() {
  if (socket_.valid()) loop_.unwatch(socket_.get());
  socket_.reset();
  if (!std::exchange(looking_, false)) return;
  found_(std::nullopt);
}

}  // namespace aios::gpu
