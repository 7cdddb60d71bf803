// What the core knows of a device.
#pragma once

#include <algorithm>
#include <cstdint>

#include "abi/proto/device.hpp"

namespace aios::scheduler {

struct DeviceState {
  std::uint32_t slots = 0;        ///< tasks that it runs at once
  std::uint32_t queue_depth = 0;  ///< that may lie in its own queue besides
  std::uint32_t running = 0;      ///< slots and places in the queue that are taken
  std::uint32_t wider = 0;        ///< by how many threads its tasks are wider than a slot each
  std::uint32_t ahead = 0;        ///< brief tasks given to contexts
  std::uint64_t ahead_ns = 0;     ///< what they are expected to take, all together
  bool usable = false;
  std::uint64_t open_ns = 20'000'000;  ///< a context
  bool open_time_known = false;        ///< it has been measured
  std::uint64_t load_ns = 0;           ///< a module; some devices compile it then
  bool load_time_known = false;
  std::uint32_t backend = 0;
  proto::Text<32> name{};
  std::uint64_t tasks_done = 0;
  std::uint64_t tasks_failed = 0;
  std::uint64_t busy_ns = 0;       ///< of its threads, sum over its tasks
  bool keeps_order = false;        ///< see set_keeps_order
  std::uint64_t memory_bytes = 0;  ///< see set_memory_size
  // Of a memory of its own (core_memory.cpp):
  std::uint64_t resident_bytes = 0;  ///< taken by copies of buffers, of all jobs
  std::uint64_t scratch_bytes = 0;   ///< what its tasks are expected to take besides
  // In the decision that is being made:
  std::uint64_t memory_waiter = 0;  ///< the number of the first that waits for room there
  std::uint64_t kept_bytes = 0;     ///< for that one

  /// How many more it takes.
  std::uint32_t room() const {
    return slots + queue_depth > running ? slots + queue_depth - running : 0;
  }
  /// Whether what it takes now waits for what is there.
  bool would_queue() const { return running + wider >= slots && room() > 0; }
  /// Threads' worth that a task holds which is so wide, as one of those that run.
  double share_of(std::uint32_t width) const {
    if (wider == 0) return 1;
    return width * std::min(1.0, static_cast<double>(slots) / (running + wider));
  }
};

}  // namespace aios::scheduler
