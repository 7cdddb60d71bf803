#include <algorithm>
#include <cmath>
#include <numeric>

#include "services/scheduler/simulator/core_tasks.hpp"
#include "services/scheduler/simulator/run.hpp"

namespace aios::scheduler::sim {
namespace {

struct Placed {
  std::uint32_t task;
  double start_ns;
  double end_ns;
};

struct SlotPlan {
  DeviceId device;
  std::vector<Placed> sequence;  ///< in time
};

/// Where copies of the data are.
class DataState {
 public:
  explicit DataState(const Realisation& run) : run_(run) {
    copies_.assign(run.graph().data_bytes.size(), only_in(host_memory));
  }
  double transfer_ns(const SimTask& task, MemoryId to, double* moved_bytes = nullptr) const {
    double sum = 0;
    for (const Access& access : task.accesses) {
      if (!access.reads() || (copies_[access.data] & only_in(to)) != 0) continue;
      sum += run_.bus().of(run_.graph().data_bytes[access.data]);
      if (moved_bytes != nullptr)
        *moved_bytes += static_cast<double>(run_.graph().data_bytes[access.data]);
    }
    return sum;
  }
  void use(const SimTask& task, MemoryId in) {
    for (const Access& access : task.accesses) {
      if (access.writes())
        copies_[access.data] = only_in(in);
      else if (access.reads())
        copies_[access.data] |= only_in(in);
    }
  }

 private:
  const Realisation& run_;
  std::vector<Copies> copies_;
};

class Heft {
 public:
  Heft(const Realisation& run, const PlannedTimes& times) : run_(run), times_(times) {
    for (DeviceId d = 0; d < run.platform().devices.size(); ++d)
      for (std::uint32_t i = 0; i < run.platform().devices[d].slots; ++i) slots_.push_back({d, {}});
  }

  Outcome go() {
    plan();
    return carry_out();
  }

 private:
  const std::vector<SimTask>& tasks() const { return run_.graph().tasks; }
  const SimDevice& device_of(const SlotPlan& slot) const {
    return run_.platform().devices[slot.device];
  }

  double mean_ns(std::uint32_t task) const {
    double sum = 0;
    double slots = 0;
    for (const SlotPlan& slot : slots_) {
      if (times_[task][slot.device] < 0) continue;
      sum += times_[task][slot.device];
      ++slots;
    }
    return sum / slots;
  }

  /// Share of the pairs of slots that are in different memories.
  double apart() const {
    double pairs = 0;
    for (const SlotPlan& a : slots_)
      for (const SlotPlan& b : slots_) pairs += device_of(a).memory != device_of(b).memory;
    return pairs / static_cast<double>(slots_.size() * slots_.size());
  }

  double moved_ns(std::uint32_t from, std::uint32_t to) const {
    double sum = 0;
    for (const Access& read : tasks()[to].accesses)
      for (const Access& written : tasks()[from].accesses)
        if (read.reads() && written.writes() && read.data == written.data)
          sum += run_.bus().of(run_.graph().data_bytes[read.data]);
    return sum;
  }

  std::vector<double> ranks() const {
    const double share = run_.platform().memories > 1 ? apart() : 0;
    std::vector<double> after(tasks().size());
    std::vector<double> rank(tasks().size());
    for (std::uint32_t t = static_cast<std::uint32_t>(tasks().size()); t-- > 0;) {
      rank[t] = mean_ns(t) + after[t];
      for (const std::uint32_t parent : tasks()[t].parents) {
        const double moved = share > 0 ? share * moved_ns(parent, t) : 0;
        after[parent] = std::max(after[parent], moved + rank[t]);
      }
    }
    return rank;
  }

  void plan() {
    const std::vector<double> rank = ranks();
    std::vector<std::uint32_t> order(tasks().size());
    std::iota(order.begin(), order.end(), 0u);
    // Parents come first also where a rank is equal: times may be 0.
    std::ranges::stable_sort(order,
                             [&](std::uint32_t a, std::uint32_t b) { return rank[a] > rank[b]; });
    DataState data(run_);
    std::vector<double> end(tasks().size());
    for (const std::uint32_t t : order) {
      double ready = 0;
      for (const std::uint32_t parent : tasks()[t].parents) ready = std::max(ready, end[parent]);
      place(t, ready, data);
      end[t] = planned_end_;
    }
  }

  /// In the gap, or at the end, where it is done first.
  void place(std::uint32_t t, double ready, DataState& data) {
    SlotPlan* best = nullptr;
    double best_start = 0;
    double best_end = 0;
    for (SlotPlan& slot : slots_) {
      if (times_[t][slot.device] < 0) continue;
      const double takes = data.transfer_ns(tasks()[t], device_of(slot).memory) +
                           run_.copying(t, slot.device).all_ns() + times_[t][slot.device];
      const double start = first_gap(slot, ready, takes);
      if (best != nullptr && start + takes >= best_end) continue;
      best = &slot;
      best_start = start;
      best_end = start + takes;
    }
    const auto at = std::ranges::find_if(best->sequence,
                                         [&](const Placed& p) { return p.start_ns >= best_start; });
    best->sequence.insert(at, {t, best_start, best_end});
    planned_end_ = best_end;
    data.use(tasks()[t], device_of(*best).memory);
  }

  static double first_gap(const SlotPlan& slot, double ready, double takes) {
    // Gaps before `ready` are of no use, and most of a sequence is before it.
    const auto after = std::ranges::upper_bound(slot.sequence, ready, {}, &Placed::end_ns);
    double free = ready;
    for (auto at = after; at != slot.sequence.end(); ++at) {
      if (at->start_ns - free >= takes) return free;
      free = std::max(free, at->end_ns);
    }
    return free;
  }

  /// Every slot does its sequence, each task as soon as those before it are done.
  Outcome carry_out() {
    Outcome outcome;
    DataState data(run_);
    std::vector<double> end(tasks().size(), -1);
    std::vector<std::size_t> next(slots_.size());
    std::vector<double> free(slots_.size());
    for (std::size_t left = tasks().size(); left > 0; --left) {
      // The one that can start first, so that copies are made in the order of time.
      std::size_t best = slots_.size();
      double best_start = 0;
      for (std::size_t s = 0; s < slots_.size(); ++s) {
        if (next[s] == slots_[s].sequence.size()) continue;
        const double start = start_of(slots_[s].sequence[next[s]].task, free[s], end);
        if (start < 0 || (best < slots_.size() && start >= best_start)) continue;
        best = s;
        best_start = start;
      }
      const SlotPlan& slot = slots_[best];
      const std::uint32_t t = slot.sequence[next[best]++].task;
      const MemoryId memory = device_of(slot).memory;
      end[t] = best_start + data.transfer_ns(tasks()[t], memory, &outcome.moved_bytes) +
               run_.copying(t, slot.device).all_ns() + run_.true_ns(t, slot.device);
      data.use(tasks()[t], memory);
      free[best] = end[t];
      outcome.makespan_ns = std::max(outcome.makespan_ns, end[t]);
    }
    return outcome;
  }

  /// < 0: something before it was not started yet.
  double start_of(std::uint32_t t, double free, const std::vector<double>& end) const {
    for (const std::uint32_t parent : tasks()[t].parents) {
      if (end[parent] < 0) return -1;
      free = std::max(free, end[parent]);
    }
    return free;
  }

  const Realisation& run_;
  const PlannedTimes& times_;
  std::vector<SlotPlan> slots_;
  double planned_end_ = 0;
};

}  // namespace

PlannedTimes true_times(const Realisation& run) {
  PlannedTimes times(run.graph().tasks.size());
  for (std::uint32_t t = 0; t < times.size(); ++t)
    for (DeviceId d = 0; d < run.platform().devices.size(); ++d)
      times[t].push_back(run.true_ns(t, d));
  return times;
}

PlannedTimes expected_times(const Realisation& run) {
  PlannedTimes times(run.graph().tasks.size());
  for (std::uint32_t t = 0; t < times.size(); ++t)
    for (DeviceId d = 0; d < run.platform().devices.size(); ++d)
      times[t].push_back(run.expected_ns(t, d));
  return times;
}

Outcome run_heft(const Realisation& run, const PlannedTimes& times) {
  return Heft(run, times).go();
}

}  // namespace aios::scheduler::sim
