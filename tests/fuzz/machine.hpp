// The aios-kernel that a fuzzer's servers and clients attach to: a child process, started when it
// is first needed, which ends with the fuzzer.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "abi/runtime/kernel.hpp"

namespace aios::fuzz {

class Machine {
 public:
  /// The one of this process.
  static Machine& get();

  /// A new attachment in job `fuzz`. One that cannot be made is a finding: the kernel has ended.
  std::unique_ptr<Kernel> attach() const;
  /// A new port, which later attachments find under `fuzzed`.
  Handle publish_port(Kernel& kernel) const;
  /// A folder for files, on the same disk as the instance's state.
  const std::filesystem::path& folder() const { return folder_; }
  /// The program that stands in for those that servers start, in a libexec folder of its own.
  static std::string idle_program();
  /// Ends every process that was started in the instance, but for the supervisor.
  void kill_children(Kernel& kernel) const;
  /// A finding, with what the kernel said last.
  [[noreturn]] void lost(const std::string& what) const;

 private:
  Machine();
  static void end();
  void start(int errors);
  void await_serving();

  std::filesystem::path folder_;
  pid_t pid_ = 0;
  Fd errors_;  ///< what the kernel writes to its standard error
  std::string said_;
};

}  // namespace aios::fuzz
