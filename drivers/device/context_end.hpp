// How a context says why it ends, and how its driver reads that back from the exit status.
#pragma once

#include <cstdint>
#include <string>

#include "abi/proto/device.hpp"

namespace aios::device {

/// Asked to end (SIGTERM), or the kernel went away.
inline constexpr int exit_in_order = 64;
/// A task ran past its time limit.
inline constexpr int exit_limit = 65;
/// A task's kernel faulted on the device, which no longer serves this process.
inline constexpr int exit_device_lost = 67;
/// The context could not start; its log says why.
inline constexpr int exit_setup = 66;
/// The device is gone, or does not answer any more: no task is to blame.
inline constexpr int exit_device_gone = 68;

struct End {
  proto::driver::ContextEnd how = proto::driver::ContextEnd::none;
  std::string cause;  ///< for people: "segmentation fault (signal 11)"
  /// Whether the device is still there should be found out.
  bool doubts_device = false;
};

/// `code` is the signal that ended the process when `signalled`, else its exit code. Any code not
/// named above is the doing of a task that called exit, and counts as its fault.
End describe_end(bool signalled, int code);

/// "segmentation fault (signal 11)".
std::string describe_signal(int signal_number);

}  // namespace aios::device
