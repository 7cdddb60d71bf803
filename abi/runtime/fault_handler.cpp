#include "abi/runtime/fault_handler.hpp"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace aios {
namespace {

const char* process_name = "";
const char* what_follows = "";

/// Wide vector registers alone take several KiB of a signal frame.
constexpr std::size_t stack_bytes = 64 << 10;

std::string_view fault_name(int signal_number) {
  switch (signal_number) {
    case SIGSEGV:
      return "segmentation fault";
    case SIGBUS:
      return "bus error";
    case SIGFPE:
      return "floating point exception";
    case SIGILL:
      return "illegal instruction";
    case SIGABRT:
      return "aborted";
    default:
      return "bad system call";
  }
}

/// Assembles a line without allocation: only async-signal-safe calls are allowed here.
class Line {
 public:
  void add(std::string_view text) {
    for (const char c : text)
      if (used_ < bytes_.size()) bytes_[used_++] = c;
  }
  void add_hex(std::uintptr_t value) {
    add("0x");
    for (int shift = 60; shift >= 0; shift -= 4)
      if (shift == 0 || (value >> shift) != 0) add({&"0123456789abcdef"[(value >> shift) & 15], 1});
  }
  void write_out() const { (void)!::write(STDERR_FILENO, bytes_.data(), used_); }

 private:
  std::array<char, 160> bytes_;
  std::size_t used_ = 0;
};

void on_fault(int signal_number, siginfo_t* info, void*) {
  Line line;
  line.add(process_name);
  line.add(": ");
  line.add(fault_name(signal_number));
  if (signal_number != SIGABRT && info->si_code > 0) {
    line.add(" at address ");
    line.add_hex(reinterpret_cast<std::uintptr_t>(info->si_addr));
  }
  line.add(what_follows);
  line.add("\n");
  line.write_out();
  ::_exit(exit_signal_base + signal_number);
}

}  // namespace

void install_fault_handlers(const char* who, const char* consequence) {
  process_name = who;
  what_follows = consequence;
  struct sigaction fault {};
  fault.sa_sigaction = on_fault;
  fault.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&fault.sa_mask);
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS})
    sigaction(number, &fault, nullptr);
  // A log that is as long as it may be, perhaps by others' lines, ends nobody.
  ::signal(SIGXFSZ, SIG_IGN);
}

AlternateStack::AlternateStack() : memory_(std::make_unique<std::byte[]>(stack_bytes)) {
  const stack_t stack{.ss_sp = memory_.get(), .ss_flags = 0, .ss_size = stack_bytes};
  sigaltstack(&stack, nullptr);
}

AlternateStack::~AlternateStack() {
  const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  sigaltstack(&none, nullptr);
}

}  // namespace aios
