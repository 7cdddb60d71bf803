// What is reckoned of the memory of a device (core_memory.cpp).
#pragma once

#include <cstdint>

namespace aios::scheduler {

struct Job;

/// What a device's memory has to hold for a task, or for several that start together.
struct MemoryNeed {
  std::uint64_t data = 0;     ///< of their buffers, each once
  std::uint64_t fresh = 0;    ///< of that, what has no room there yet
  std::uint64_t scratch = 0;  ///< besides, at most, in 19 of 20 runs of that size there
  std::uint64_t all() const { return data + scratch; }
};

enum class MemoryRoom {
  now,           ///< perhaps when copies of its own job leave that no task there uses
  after_copies,  ///< when copies of other jobs have left
  after_tasks,   ///< when tasks there have ended
  held,          ///< when a context has gone on or ended that does not go on for now
};

/// What lies in a device's memory beside the data of tasks in contexts that go on.
struct UnusedMemory {
  std::uint64_t leaving = 0;  ///< was asked to leave, or goes with its context, which ends
  std::uint64_t own = 0;      ///< the same, but gone before a task of that job begins
  std::uint64_t held = 0;     ///< by contexts that do not go on, their tasks' included
  std::uint64_t scratch = 0;  ///< of the latter, what tasks take besides data
};

struct IdleCopy {
  Job* job;
  std::uint32_t buffer;
  bool only_one;  ///< there is no other copy of what it holds
  std::uint64_t last_use;
};

}  // namespace aios::scheduler
