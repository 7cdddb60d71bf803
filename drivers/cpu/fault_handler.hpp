// What happens in a context when the code it runs faults: one line to the log, then the end.
#pragma once

#include <cstddef>
#include <memory>

namespace aios::cpu {

/// For the whole process: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT and SIGSYS write their cause and
/// address to standard error and end the process with exit_signal_base + number.
void install_fault_handlers();

/// Makes handlers of the calling thread run on a stack of their own, so that an overflow of the
/// ordinary one can still be reported. Must be destroyed by the same thread.
class AlternateStack {
 public:
  AlternateStack();
  ~AlternateStack();
  AlternateStack(const AlternateStack&) = delete;
  AlternateStack& operator=(const AlternateStack&) = delete;

 private:
  std::unique_ptr<std::byte[]> memory_;
};

}  // namespace aios::cpu
