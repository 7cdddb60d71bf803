#include "tools/aiosctl/watch/terminal.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string_view>

#include "abi/runtime/signals.hpp"

namespace aios::ctl {

namespace {

// Another screen and no cursor, and back.
constexpr std::string_view enter_text = "\x1B[?1049h\x1B[?25l";
constexpr std::string_view leave_text = "\x1B[?25h\x1B[?1049l";
constexpr int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

// For handlers of signals: how it was before.
termios before;

// Both call only what a handler may.
void enter() {
  termios raw = before;
  // Signals stay: Ctrl-C is one.
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 0;
  ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  (void)!::write(STDOUT_FILENO, enter_text.data(), enter_text.size());
}
void leave() {
  (void)!::write(STDOUT_FILENO, leave_text.data(), leave_text.size());
  ::tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

void end_by(int number) {
  leave();
  if (number == SIGINT) ::_exit(0);
  ::signal(number, SIG_DFL);
  ::raise(number);
}

void stop_by(int) {
  const int kept = errno;
  leave();
  ::raise(SIGSTOP);
  // It goes on, with what the shell has set meanwhile.
  ::tcgetattr(STDIN_FILENO, &before);
  enter();
  ::raise(SIGWINCH);
  errno = kept;
}

void handle(int number, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigaction(number, &action, nullptr);
}

}  // namespace

bool Terminal::is_there() {
  return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
}

Result<Terminal> Terminal::take() {
  if (::tcgetattr(STDIN_FILENO, &before) != 0) return errno_error("ask the terminal", errno);
  Fd resized = TRY(make_signal_fd({SIGWINCH}));
  for (const int number : ending_signals) handle(number, end_by);
  handle(SIGTSTP, stop_by);
  enter();
  return Terminal(std::move(resized));
}

Terminal::~Terminal() {
  if (!resized_.valid()) return;
  for (const int number : ending_signals) ::signal(number, SIG_DFL);
  ::signal(SIGTSTP, SIG_DFL);
  leave();
}

Terminal::Size Terminal::size() const {
  winsize found{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &found) != 0 || found.ws_row == 0 || found.ws_col == 0)
    return {24, 80};
  return {found.ws_row, found.ws_col};
}

void Terminal::show(const std::string& text) const {
  // Each line is cleared before its text: behind one that is as long as the screen is wide, its
  // last character would be.
  std::string out = "\x1B[H";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    out += "\x1B[K" + text.substr(at, end - at);
    at = end + 1;
    // After the last line of the screen it would scroll.
    if (at < text.size()) out += "\r\n";
  }
  // What is below, from the next line on; there is none behind a full screen.
  if (static_cast<std::size_t>(std::ranges::count(text, '\n')) < size().lines) out += "\r\n\x1B[J";
  std::fwrite(out.data(), 1, out.size(), stdout);
  std::fflush(stdout);
}

Terminal::Event Terminal::wait(Deadline end) const {
  pollfd events[2] = {{resized_.get(), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  while (::poll(events, 2, end.poll_timeout_ms()) < 0)
    if (errno != EINTR) return Event::time;
  if (events[0].revents != 0) {
    (void)take_signal(resized_);
    return Event::redraw;
  }
  return events[1].revents != 0 ? Event::key : Event::time;
}

char Terminal::key() const {
  char key = 0;
  return ::read(STDIN_FILENO, &key, 1) == 1 ? key : 'q';
}

}  // namespace aios::ctl
