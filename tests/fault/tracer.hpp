// All threads of one process, stopped and looked at by ptrace. One thread of ours uses it, and it
// lets them go on when it ends. A signal that a traced thread gets is passed on to it.
#pragma once

#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "abi/runtime/status.hpp"
#include "abi/runtime/time.hpp"

namespace aios::fault {

class Tracer {
 public:
  /// Stops every thread. An error when that does not succeed, as when it has ended.
  static Result<Tracer> seize(pid_t pid);
  Tracer(Tracer&& other) noexcept;
  Tracer& operator=(Tracer&&) = delete;
  ~Tracer();

  pid_t pid() const { return pid_; }
  std::vector<pid_t> threads() const;
  /// The process has ended.
  bool ended() const { return threads_.empty(); }

  enum class How { go_on, to_system_call, one_step };
  /// A stopped thread goes on.
  void resume(pid_t thread, How how = How::go_on);
  void resume_all(How how = How::go_on);
  /// A running thread stops soon: its stop comes through `wait`.
  void interrupt(pid_t thread);
  /// Stops every thread that runs. Stops of other kinds are kept for `wait`.
  void stop_all();

  struct Stop {
    pid_t thread;
    int signal_number;  ///< SIGTRAP for steps and breakpoints; SIGTRAP | 0x80: a system call
    bool interrupted;   ///< by `interrupt`
  };
  /// The next thread that stopped, which stays so; nothing when none does in time, or all have
  /// ended. Only of `thread` unless 0.
  std::optional<Stop> wait(Deadline deadline, pid_t thread = 0);

  Result<user_regs_struct> registers(pid_t thread) const;
  bool set_registers(pid_t thread, const user_regs_struct& registers) const;
  /// Any memory, code as well; some thread must be stopped.
  bool read(std::uint64_t address, std::uint8_t* to, std::size_t count) const;
  bool write_byte(std::uint64_t address, std::uint8_t value) const;
  /// A signal to be given to the thread when it goes on, as it would have got it without us.
  void pass_on(pid_t thread, int signal_number) { threads_[thread].signal = signal_number; }

 private:
  explicit Tracer(pid_t pid) : pid_(pid) {}
  struct Thread {
    bool stopped = false;
    int signal = 0;  ///< to deliver when it goes on
  };
  std::optional<Stop> look(pid_t thread);
  void detach(pid_t thread);
  pid_t any_stopped() const;

  pid_t pid_;
  std::map<pid_t, Thread> threads_;
  std::vector<Stop> kept_;
};

}  // namespace aios::fault
