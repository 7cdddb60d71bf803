#include "drivers/device/context_end.hpp"

#include <cctype>
#include <csignal>
#include <cstring>

#include "abi/runtime/fault_handler.hpp"

namespace aios::device {

using proto::driver::ContextEnd;

std::string describe_signal(int signal_number) {
  const char* known = sigdescr_np(signal_number);
  std::string text = known != nullptr ? known : "unknown signal";
  text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  return text + " (signal " + std::to_string(signal_number) + ")";
}

End describe_end(bool signalled, int code) {
  if (signalled && code == SIGKILL) return {ContextEnd::killed, "killed from outside (signal 9)"};
  if (signalled) return {ContextEnd::fault, describe_signal(code)};
  if (code == exit_in_order) return {ContextEnd::exited, "ended in order"};
  if (code == exit_setup) return {ContextEnd::exited, "could not start; its log says why", true};
  if (code == exit_device_gone) return {ContextEnd::exited, "its device is gone", true};
  if (code == exit_device_lost)
    return {ContextEnd::fault, "a kernel faulted on the device; its task says how"};
  if (code == exit_limit) return {ContextEnd::limit, "a task exceeded its time limit"};
  if (code > exit_signal_base && sigdescr_np(code - exit_signal_base) != nullptr)
    return {ContextEnd::fault, describe_signal(code - exit_signal_base)};
  return {ContextEnd::fault,
          "a task's code ended its process (exit code " + std::to_string(code) + ")"};
}

}  // namespace aios::device
