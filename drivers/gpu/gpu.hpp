// One GPU, as a context uses it: what its backends (cuda, opencl) have in common. One thread at a
// time, except to wait. What waits blocks until the device is done; a device that hangs is ended
// with the process, by whoever watches its time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "abi/proto/device.hpp"
#include "abi/runtime/status.hpp"
#include "drivers/gpu/kernel_module.hpp"
#include "drivers/gpu/memory/content_mark.hpp"

namespace aios::gpu {

/// What discovery finds out about a device.
struct DeviceInfo {
  std::string kind = "gpu";  ///< "cpu" where OpenCL runs on the processor
  std::string backend;       ///< "cuda" or "opencl"
  std::string uuid;          ///< the same after a restart
  std::string model;
  std::uint32_t multiprocessors = 0;
  std::uint64_t memory_bytes = 0;
  bool shares_memory = false;   ///< with the processor: regions are used in place
  bool exports_memory = false;  ///< to other processes: it can outlive a context
  bool emulated = false;
  std::string pci_address;      ///< "0000:01:00.0"; empty: none
  std::int32_t numa_node = -1;  ///< that it hangs at; -1: unknown
  std::uint32_t peers = 0;      ///< bit i: it reads and writes device i of its backend directly
  std::string library;          ///< the OpenCL driver that it belongs to
};

/// A kernel, compiled for a device. Belongs to its Gpu.
class Kernel {
 public:
  explicit Kernel(KernelInfo of) : info(std::move(of)) {}
  virtual ~Kernel() = default;
  const KernelInfo info;
};

/// Which host memory a copy on the device is of, beyond the life of this context. All zero: that
/// nobody will ask.
using MemoryKey = proto::memory::AllocationKey;

/// Host memory that tasks use on the device: a copy there, or the memory itself.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  /// Where it is noted what the copy holds, when that outlives this context; else null.
  virtual std::shared_ptr<ContentMark> mark() const { return nullptr; }
  /// The next launch brings back, through another buffer, some of the host's bytes of this one:
  /// what is fetched of it afterwards has to come behind that.
  virtual void source_changes() {}
};

struct BufferUse {
  DeviceBuffer* buffer;
  bool copy_in;   ///< the host's bytes count
  bool copy_out;  ///< the device's do afterwards
};

struct Launch {
  Kernel* kernel;
  std::array<std::uint32_t, 3> grid;
  std::span<const std::byte> arguments;
  std::vector<BufferUse> buffers;
};

/// The copies of a launch in one direction, and what they took all together.
struct Copied {
  std::uint32_t count = 0;
  std::uint64_t bytes = 0;
  std::uint64_t ns = 0;
};

struct Times {
  std::uint64_t start_ns;  ///< CLOCK_MONOTONIC, of the kernel alone
  std::uint64_t end_ns;
  Copied in = {};
  Copied out = {};
  bool ahead = false;  ///< `in` was while launches before it ran
};

/// What a copy holds when a launch has ended well.
struct Settlement {
  std::shared_ptr<ContentMark> mark;
  std::uint64_t change;
  std::uint32_t content;
};

/// A launch that was handed to the device.
class Flight {
 public:
  virtual ~Flight() = default;
  std::vector<Settlement> to_settle;  ///< by who waits for it
};

class Gpu {
 public:
  virtual ~Gpu() = default;
  virtual const DeviceInfo& info() const = 0;

  /// Compiles a module's code. invalid_argument: it has none for this backend, or does not compile;
  /// the compiler's words are in the message.
  virtual Result<std::vector<std::unique_ptr<Kernel>>> compile(const KernelModule& module) = 0;

  /// Makes `memory`, which outlives it, known to the device. no_memory: more than `limit` or than
  /// the device has. `writable`: tasks may write it.
  virtual Result<std::unique_ptr<DeviceBuffer>> attach(std::span<std::byte> memory, bool writable,
                                                       const MemoryKey& key = {}) = 0;

  /// Hands to the device what copies in, runs and copies out, after all launches before. The host's
  /// memory must stay until it has been waited for. invalid_argument: the device cannot launch it
  /// so; then nothing of it is on its way.
  virtual Result<std::unique_ptr<Flight>> start(const Launch& launch) = 0;
  /// Whether has_ended can tell. Not where looking would take the processor from the kernel.
  virtual bool tells_end() const { return false; }
  /// Whether `wait` would return at once, if only with an error. At the same time as anything else
  /// here.
  virtual bool has_ended(const Flight&) const { return false; }
  /// Waits for its end, at the same time as anything else here. crashed: the kernel faulted;
  /// service_down: the device is gone. Either way nothing works any more, and the process should
  /// end.
  virtual Result<Times> wait(std::unique_ptr<Flight> flight) = 0;
  Result<Times> run(const Launch& launch) { return wait(TRY(start(launch))); }

  /// Waits, at the same time as anything else here, until the memory of buffers that have ended is
  /// free; some devices free it in their own time.
  virtual void wait_for_freed() {}

  /// Of device memory, at most at once.
  virtual std::uint64_t peak_memory_bytes() const = 0;
};

/// How many tasks lie in a device's queue beside the one that runs: the next is there when that
/// ends.
inline constexpr std::uint32_t queue_depth = 1;

/// Counts device memory against a limit.
class MemoryBudget {
 public:
  explicit MemoryBudget(std::uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  /// no_memory, with the figures.
  Result<void> take(std::uint64_t bytes);
  void give_back(std::uint64_t bytes) { used_bytes_ -= bytes; }
  std::uint64_t peak_bytes() const { return peak_bytes_; }

 private:
  std::uint64_t limit_bytes_;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t peak_bytes_ = 0;
};

}  // namespace aios::gpu
