// A terminal of which a command takes the whole screen for a while, with keys as they are pressed.
// By the control sequences that every terminal of today knows (ECMA-48).
#pragma once

#include <termios.h>

#include <cstddef>
#include <string>

#include "abi/runtime/status.hpp"

namespace aios::ctl {

class Terminal {
 public:
  /// Whether standard input and output are one.
  static bool is_there();
  /// Takes it; what was on the screen comes back when this object goes.
  static Result<Terminal> take();
  ~Terminal();
  Terminal(Terminal&& other) noexcept : before_(other.before_), taken_(other.taken_) {
    other.taken_ = false;
  }
  Terminal& operator=(Terminal&&) = delete;

  struct Size {
    std::size_t lines;
    std::size_t columns;
  };
  Size size() const;
  /// `text` from the first line on, instead of what was there. It fits.
  void show(const std::string& text);
  /// The key that was pressed, once standard input is readable.
  char key();

 private:
  explicit Terminal(const termios& before) : before_(before) {}
  termios before_;
  bool taken_ = true;
};

}  // namespace aios::ctl
