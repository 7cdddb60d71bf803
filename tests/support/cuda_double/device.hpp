// The state of the pretended GPU: memory, streams, what went wrong for good, faults to order.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "drivers/gpu/cuda/driver_api.hpp"
#include "tests/support/cuda_double/machine.hpp"

namespace aios::cuda_double {

using GpuCode = gpu::cuda::Code;

/// Faults that a test orders through AIOS_CUDA_DOUBLE, words between commas:
///   devices=N    how many there are (1)
///   mig=yes      they are parts of a GPU
///   memory=MIB   of a device (256)
///   init=hang    cuInit does not return
///   init=S       it takes S seconds
///   owner=hang   it does not return in a process that owns memory (--role memory)
///   owner=fail   it fails there
///   alloc=N      the Nth allocation of this process finds no memory
///   event=N      the Nth event cannot be made
///   copy=N       the Nth copy is refused
///   launch=N:C   the Nth launch ends with error C
///   hang=N       the Nth launch never ends
///   checkpoint=no  the memory of other processes cannot be saved
///   gone=FILE    every device is gone as soon as FILE, opened when the library is loaded, has
///   bytes
struct Orders {
  int devices = 1;
  bool parts = false;
  std::size_t memory_bytes = 256u << 20;
  bool hang_at_init = false;
  unsigned init_s = 0;
  bool owner_hangs = false;
  bool owner_fails = false;
  std::uint64_t failing_allocation = 0;
  std::uint64_t failing_event = 0;
  std::uint64_t failing_copy = 0;
  std::uint64_t failing_launch = 0;
  int failing_launch_code = 0;
  std::uint64_t hanging_launch = 0;
  bool no_checkpoints = false;
  int gone_fd = -1;  ///< of FILE

  static Orders from_environment();
};

/// Something to do in a stream; its code, when fatal, is sticky.
using Work = std::function<GpuCode()>;

/// Happens in streams. Waiting for it ends when it was recorded or the device is lost.
class HappeningState {
 public:
  void pend();
  void happen();
  /// Nothing when it was never recorded or has not happened yet.
  std::optional<double> time_ms() const;
  bool pending() const;
  std::uint64_t recorded() const;
  /// Until as many have happened as had been recorded then.
  void wait(std::uint64_t awaited);

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t recorded_ = 0;
  std::uint64_t happened_ = 0;
  double time_ms_ = 0;
};

/// Work in order, on a thread of its own.
class WorkStream {
 public:
  WorkStream();
  ~WorkStream();
  WorkStream(const WorkStream&) = delete;
  void add(Work work);
  bool idle() const;
  void wait_idle();

 private:
  void serve();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> queue_;
  bool busy_ = false;
  bool ending_ = false;
  std::thread thread_;
};

class PretendedGpu {
 public:
  static PretendedGpu& instance();

  const Orders orders = Orders::from_environment();
  DeviceMemory memory;
  std::atomic<bool> initialized = false;
  // What there is at the moment.
  std::atomic<std::uint64_t> live_events = 0;
  std::atomic<std::uint64_t> live_modules = 0;

  /// success until something fatal happened, then that for ever.
  GpuCode sticky() const { return sticky_.load(); }
  void lose(GpuCode code);
  /// By order.
  bool gone() const;
  /// What cuInit does first, by order. In a context it fails if that sees more than its own device:
  /// a real one would set up all of them.
  GpuCode begin() const;

  /// Counts memory of this process. False: there is not as much.
  bool take(std::size_t bytes);
  void give_back(std::size_t bytes);
  std::size_t free_bytes() const { return orders.memory_bytes - used_.load(); }
  std::size_t used_bytes() const { return used_.load(); }

  /// By order: whether the next event or copy goes wrong.
  bool event_fails() { return ++events_ == orders.failing_event; }
  bool copy_fails() { return ++copies_ == orders.failing_copy; }

  /// What a launch does when its turn comes.
  GpuCode execute(const Launch& launch);

 private:
  std::atomic<GpuCode> sticky_ = GpuCode::success;
  std::atomic<std::size_t> used_ = 0;
  std::atomic<std::uint64_t> allocations_ = 0;
  std::atomic<std::uint64_t> events_ = 0;
  std::atomic<std::uint64_t> copies_ = 0;
  std::atomic<std::uint64_t> launches_ = 0;
  std::atomic<bool> never_ = false;
};

}  // namespace aios::cuda_double
