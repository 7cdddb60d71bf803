// What happens in a server or context when its code faults: one line to the log, then the end.
#pragma once

#include <cstddef>
#include <memory>

namespace aios {

/// Plus the signal's number: how a process ends that reported a fault by its own handler. As the
/// first process of its namespace it would otherwise survive some signals and misreport others.
inline constexpr int exit_signal_base = 128;

/// For the whole process: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT and SIGSYS write "WHO: CAUSE at
/// address ADDRESS CONSEQUENCE" to standard error and end the process with exit_signal_base +
/// number. SIGXFSZ is ignored: a log that may not grow further is not a fault. Both texts are
/// string literals.
void install_fault_handlers(const char* who, const char* consequence);

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

}  // namespace aios
