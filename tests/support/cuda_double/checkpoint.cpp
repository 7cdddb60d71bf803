#include "tests/support/cuda_double/checkpoint.hpp"

#include <signal.h>

#include <map>
#include <mutex>

#include "tests/support/cuda_double/device.hpp"

namespace aios::cuda_double {

namespace {

enum class State { running, locked, saved };

std::mutex mutex;
std::map<int, State> states;  // of processes, as this one has put them

/// The memory of the emulated device is the process's own and stays where it is: what is carried
/// out is that the process stands still, and the order of the calls.
Code step(int process, State from, State to, int signal) {
  if (!PretendedGpu::instance().initialized) return Code::not_initialized;
  const std::lock_guard lock(mutex);
  State& state = states[process];
  if (state != from) return Code::illegal_state;
  if (::kill(process, signal) != 0) return Code::invalid_value;
  state = to;
  return Code::success;
}

}  // namespace

Code checkpoint_lock(int process, CheckpointLock*) {
  return step(process, State::running, State::locked, SIGSTOP);
}

Code checkpoint_save(int process, void*) {
  if (PretendedGpu::instance().orders.no_checkpoints) return Code::not_supported;
  return step(process, State::locked, State::saved, 0);
}

Code checkpoint_restore(int process, void*) {
  return step(process, State::saved, State::locked, 0);
}

Code checkpoint_unlock(int process, void*) {
  return step(process, State::locked, State::running, SIGCONT);
}

}  // namespace aios::cuda_double
