// When the slots of one device get free: by prediction, for what runs there, and for what is
// planned to run after it in the decision that is being made.
#pragma once

#include <cstdint>
#include <vector>

#include "services/scheduler/core/parts/share_out.hpp"

namespace aios::scheduler {

class Timeline {
 public:
  void set_slots(std::uint32_t slots) { slots_ = slots; }

  /// `key` tells it from all others that run there; `width`: slots that it keeps busy.
  void started(std::uint32_t key, std::uint64_t now_ns, std::uint64_t end_ns,
               std::uint32_t width = 1);
  /// Nothing happens when it is not there.
  void left(std::uint32_t key);

  /// Begins a plan: what runs, and nothing after it.
  void begin_plan(std::uint64_t now_ns);
  /// When the next slot is free in the plan; never before its `now_ns`. There is at least one slot.
  std::uint64_t free_ns() const { return plan_.front(); }
  /// When a task of that width would begin that has as many slots for itself, so as to end when it
  /// will; it may begin sooner, on some of them (share_out.hpp).
  std::uint64_t free_ns(std::uint32_t width, double duration_ns);
  /// In the plan, what waits for the next slot, or `width` of them, takes so long there.
  void plan(std::uint64_t duration_ns, std::uint32_t width = 1);

  /// When the first of what runs is due; ~0 when nothing runs.
  std::uint64_t next_end_ns(std::uint64_t now_ns) const;

 private:
  struct Running {
    std::uint32_t key;
    std::uint64_t end_ns;
    std::uint32_t width;
  };
  /// What is late stays so for as long again as it is late: at first that is nothing, but who waits
  /// for something that hangs sees it move away.
  static std::uint64_t expected_ns(const Running& running, std::uint64_t now_ns) {
    return running.end_ns >= now_ns ? running.end_ns : now_ns + (now_ns - running.end_ns);
  }

  SharedOut share_out_plan(std::uint32_t width, double duration_ns);

  std::uint32_t slots_ = 1;
  std::vector<Running> running_;
  std::vector<std::uint64_t> plan_;  ///< a heap, the earliest first; one for each slot
  bool is_sorted_ = false;           ///< besides
};

}  // namespace aios::scheduler
