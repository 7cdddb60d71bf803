// The instance whose devices are tested, and what they are. Apart from what uses libaios: its names
// are also those of the runtime.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace aios::conformance {

struct Device {
  std::uint32_t index;
  std::string name;  ///< "gpu1 cuda (emulated)"
  std::string backend;
  std::uint64_t memory_bytes;
  bool own_memory;
};

/// Of each device tasks may use so much memory. What is more than a device has is a region of the
/// host's, and real: of all that a large GPU has it would be more than many machines have.
inline constexpr std::uint64_t most_memory_bytes = 256u << 20;

/// Whether this machine has one installed.
bool has_opencl_driver();

class System {
 public:
  /// Boots an instance with every driver that there is; `devices` are those of the backend
  /// AIOS_CONFORMANCE_BACKEND where that is set. Throws std::runtime_error.
  System();
  ~System();
  System(const System&) = delete;
  std::string socket_path() const;
  const std::vector<Device>& devices() const { return devices_; }
  /// The processes that are contexts now, of whatever job.
  std::set<std::uint64_t> contexts() const;
  /// Ends, as from outside, the processes that own device memory: how many there were.
  std::size_t kill_memory_owners() const;
  /// Of how many copies to the device and back the scheduler has learned. Throws
  /// std::runtime_error.
  std::uint64_t learned_copies(const Device& device) const;
  /// How many tasks of those placed there last say that their data was copied.
  std::uint64_t tasks_with_copies(const Device& device) const;
  /// Kills the driver of GPUs and waits until there is another. Throws std::runtime_error.
  void restart_gpu_driver() const;

 private:
  struct Instance;
  std::unique_ptr<Instance> instance_;
  std::vector<Device> devices_;
};

}  // namespace aios::conformance
