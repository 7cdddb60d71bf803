#include "tools/aiosctl/watch/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace aios::ctl {

namespace {

void say(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

bool Terminal::is_there() {
  return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
}

Result<Terminal> Terminal::take() {
  termios before{};
  if (::tcgetattr(STDIN_FILENO, &before) != 0) return errno_error("ask the terminal", errno);
  termios raw = before;
  // Signals stay: Ctrl-C is one.
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 0;
  if (::tcsetattr(STDIN_FILENO, TCSANOW, &raw) != 0) return errno_error("set the terminal", errno);
  say("\x1B[?1049h\x1B[?25l");  // another screen, no cursor
  return Terminal(before);
}

Terminal::~Terminal() {
  if (!taken_) return;
  say("\x1B[?25h\x1B[?1049l");
  ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
}

Terminal::Size Terminal::size() const {
  winsize found{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &found) != 0 || found.ws_row == 0 || found.ws_col == 0)
    return {24, 80};
  return {found.ws_row, found.ws_col};
}

void Terminal::show(const std::string& text) {
  // Each line is cleared behind its text, so that nothing flickers.
  std::string out = "\x1B[H";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    out += text.substr(at, end - at) + "\x1B[K";
    at = end + 1;
    // After the last line of the screen it would scroll.
    if (at < text.size()) out += "\r\n";
  }
  say(out + "\x1B[J");
}

char Terminal::key() {
  char key = 0;
  // Nothing to read although there is something: the terminal is gone.
  return ::read(STDIN_FILENO, &key, 1) == 1 ? key : 'q';
}

}  // namespace aios::ctl
