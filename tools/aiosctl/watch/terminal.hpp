// The terminal, of which a command takes the whole screen for a while, with keys as they are
// pressed. By the control sequences that every terminal of today knows (ECMA-48).
#pragma once

#include <cstddef>
#include <string>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"
#include "abi/runtime/time.hpp"

namespace aios::ctl {

/// At most one at a time. However the program ends by a signal or is stopped by one, also while it
/// waits for something else, the terminal is as it was before; SIGINT ends it with exit code 0.
class Terminal {
 public:
  /// Whether standard input and output are one.
  static bool is_there();
  /// Takes it; what was on the screen comes back when this object goes.
  static Result<Terminal> take();
  ~Terminal();
  Terminal(Terminal&& other) noexcept : resized_(std::move(other.resized_)) {}
  Terminal& operator=(Terminal&&) = delete;

  struct Size {
    std::size_t lines;
    std::size_t columns;
  };
  Size size() const;
  /// `text` from the first line on, instead of what was there. It fits.
  void show(const std::string& text) const;

  enum class Event { time, key, redraw };
  /// What comes first: a key, a reason to show everything again, or the end.
  Event wait(Deadline end) const;
  /// The key that was pressed, after Event::key; 'q' when the terminal is gone.
  char key() const;

 private:
  explicit Terminal(Fd resized) : resized_(std::move(resized)) {}
  Fd resized_;  ///< signals; invalid: moved from
};

}  // namespace aios::ctl
