#include "abi/runtime/signals.hpp"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

namespace aios {

Result<Fd> make_signal_fd(std::initializer_list<int> numbers) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : numbers) ::sigaddset(&set, number);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return errno_error("block signals", errno);
  Fd signals(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals.valid()) return errno_error("make signal descriptor", errno);
  return signals;
}

int take_signal(const Fd& signal_fd) {
  signalfd_siginfo info{};
  if (::read(signal_fd.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return 0;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace aios
