// One application on the devices of an instance: a job of its own, its tasks and what becomes of
// them.
#pragma once

#include <aios/aios.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/conformance/cases.hpp"
#include "tests/conformance/devices.hpp"

namespace aios::conformance {

inline constexpr const char* fault_module = CODELET_FOLDER "/faults.so";
inline constexpr std::uint64_t timeout_ns = 60'000'000'000;

/// What one application has.
class Application {
 public:
  Application(const std::string& socket, const char* job)
      : instance_(options(socket, job)), tenant_(instance_.tenant(timeout_ns)) {}

  /// Empty when the case came out as it should, else how not.
  std::string run(const Case& c, const Device& device);
  /// The status of one task with one buffer of `bytes`, and what is said about it.
  std::pair<aios_code, std::string> run_alone(const std::string& module, const char* codelet,
                                              const Device& device, std::size_t bytes,
                                              std::uint64_t argument, std::uint64_t limit);
  /// Empty when tasks see each other's results and what the client writes in between.
  /// With `crash` the context is lost in between.
  std::string run_chain(const Device& device, bool crash);
  /// Several tasks at once, of which one faults: empty when that one failed and the rest did not.
  std::string run_beside_fault(const Case& c, const Device& device);
  /// Chains of tasks so brief that many go to the device at once: empty when each has computed what
  /// it should, and with `fault` when one that faults in their midst is the only one that does.
  std::string run_brief(const Device& device, bool fault);
  /// Brief tasks, each of which reads what the one before wrote through a buffer over the same
  /// bytes.
  std::string run_over_same_bytes(const Device& device);
  std::uint32_t codelet(const std::string& module, const std::string& name);
  /// What a task has left in the device's memory, and nowhere else, is found there by a task in the
  /// next context: empty when it is. Two buffers of `count` numbers; `before_crash` is done in
  /// between.
  std::string find_after_crash(
      const Device& device, std::uint32_t count, const std::function<void()>& before_crash = [] {});
  /// Adds 1 to each number of a buffer that it keeps for this device, and looks at all of them.
  std::string add_to_held(const Device& device);

 private:
  struct Held {
    Region ones;
    Region sums;
    std::uint32_t ones_id;
    std::uint32_t sums_id;
    float expected = 0;
  };

  static aios_attach_options options(const std::string& socket, const char* job) {
    aios_attach_options made{};
    made.socket_path = socket.c_str();
    made.job_name = job;
    return made;
  }
  aios_completion finish(Task& task);
  std::vector<aios_completion> collect(std::size_t count);

  Instance instance_;
  Tenant tenant_;
  std::map<std::string, std::uint32_t> codelets_;
  std::map<std::uint32_t, Held> held_;  ///< by device
  std::uint64_t last_tag_ = 0;
};

}  // namespace aios::conformance
