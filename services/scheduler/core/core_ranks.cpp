// Upward ranks: how long the way is from the start of a task to the end of all that depends on it
// (MODELS.md). A batch is ranked when it is submitted, from its last task to its first, for tasks
// depend on earlier ones only; those before the batch, on which it depends, are ranked again.
#include <algorithm>

#include "abi/include/aios/codelet.h"
#include "services/scheduler/core/core_inline.hpp"
#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {
namespace {

/// How many earlier tasks one submit may rank again: batches that lengthen a long chain bit by bit
/// must not cost its whole length each.
constexpr std::uint32_t max_ranked_again = 1024;

/// Of one task. Eight hours: the sum over a full task table still fits.
constexpr double most_rank_ns = 3e13;

std::uint64_t mixed(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
  return hash ^ (hash >> 29);
}

std::uint64_t rank_of(double mean_ns) {
  return static_cast<std::uint64_t>(std::min(mean_ns, most_rank_ns));
}

}  // namespace

WorkId Core::work_of(const Tenant& tenant, const TaskRecord& record) {
  if (is_join(record)) return 0;
  Features features;
  features.footprint = mixed(record.argument_bytes, record.buffer_count);
  features.tag = record.tag;
  features.buffers = record.buffer_count;
  for (const std::uint32_t n : record.grid) {
    features.footprint = mixed(features.footprint, n);
    features.blocks *= n;
  }
  for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
    const std::uint64_t bytes = tenant.job->buffers[buffer_id(record.buffers[i])].bytes;
    const std::uint32_t mode = buffer_mode(record.buffers[i]);
    features.footprint = mixed(features.footprint, bytes);
    const auto size = static_cast<double>(bytes);
    features.bytes += size;
    features.largest_bytes = std::max(features.largest_bytes, size);
    if ((mode & AIOS_MODE_READ) != 0) features.read_bytes += size;
    if ((mode & AIOS_MODE_WRITE) != 0) features.written_bytes += size;
  }
  return costs_->work(tenant.codelets[record.codelet].costs, features);
}

Core::Times Core::times_of(const Tenant& tenant, const TaskRecord& record, WorkId work,
                           bool anywhere) {
  Times times;
  if (is_join(record)) return times.known = true, times;
  double sum = 0;
  double rate = 0;
  double slots = 0;
  times.known = true;
  for (DeviceId d = 0; d < devices_.size(); ++d) {
    if (!devices_[d].usable ||
        !(anywhere ? has_code_for(tenant, record, d) : suits(tenant, record, d)))
      continue;
    const Estimate& estimate = costs_->estimate(work, d);
    const double mean_ns = std::max(estimate.time.mean, 1.0);
    // Where its data lies when it begins is not known; as if that were as now.
    const double whole_ns = mean_ns + transfer_to(tenant, record, d).ns;
    sum += mean_ns * devices_[d].slots;
    rate += devices_[d].slots / (whole_ns * width_on(record, d));
    if (slots == 0 || whole_ns < times.quickest_ns) times.quickest_ns = whole_ns;
    times.known = times.known && estimate.level != Level::none;
    slots += devices_[d].slots;
  }
  if (slots == 0) return {};
  times.mean_ns = sum / slots;
  times.together_ns = 1 / rate;
  return times;
}

const Core::Times& Core::times_in_batch(const Tenant& tenant, const Task& task) {
  const TaskRecord& record = task.record;
  // Those of one size are alike, but not where their data lies.
  if (!last_times_ || !memories_.is_one() || last_times_->work != task.work ||
      last_times_->codelet != record.codelet || last_times_->device != record.device ||
      last_times_->flags != record.flags)
    last_times_ = LastTimes{task.work, record.codelet, record.device, record.flags,
                            times_of(tenant, record, task.work)};
  return last_times_->times;
}

std::uint64_t Core::longest_way_on_ns(Slot slot) {
  const Task& task = tasks_[slot];
  std::uint64_t longest = 0;
  if (memories_.is_one()) {
    tasks_.for_successors(slot, [&](Slot successor) {
      longest = std::max(longest, tasks_[successor].upward_rank_ns);
    });
    return longest;
  }
  const bool far = placement_->looks_onward();
  if (far) onward_.begin(slot, memories_.count());
  tasks_.for_successors(slot, [&](Slot successor) {
    const double moved = moved_ns(task, tasks_[successor]);
    longest = std::max(longest, rank_of(moved * apart_) + tasks_[successor].upward_rank_ns);
    if (far)
      onward_.follow(slot, successor, std::min(moved, most_rank_ns), memories_.copies_back());
  });
  if (!far) return longest;
  if (is_join(task.record)) return onward_.runs_nowhere(slot), longest;
  for (DeviceId d = 0; d < devices_.size(); ++d)
    if (devices_[d].usable && suits(*task.tenant, task.record, d))
      onward_.runs_in(slot, memories_.of(d),
                      static_cast<double>(rank_of(costs_->estimate(task.work, d).time.mean)) +
                          std::min(brought_ns(task, d), most_rank_ns));
  return longest;
}

void Core::rank_batch(Tenant& tenant, std::uint64_t first_number) {
  std::uint32_t steps = 0;
  for (std::size_t i = batch_.size(); i-- > 0;) {
    Task& task = tasks_[batch_[i]];
    if (task.state != State::waiting || task.tenant != &tenant) continue;
    task.upward_rank_ns = rank_of(task.mean_ns) + longest_way_on_ns(batch_[i]);
  }
  for (const Slot slot : batch_) {
    if (tasks_[slot].state != State::waiting || tasks_[slot].tenant != &tenant) continue;
    rank_predecessors(tasks_[slot], first_number, steps);
  }
  if (!complete_gangs_.empty()) rank_gangs(tenant, complete_gangs_);
}

void Core::rank_anew(std::span<const TaskRef> graph) {
  for (std::size_t i = graph.size(); i-- > 0;)
    if (Task* task = tasks_.find(graph[i]); task != nullptr && task->state == State::waiting)
      task->upward_rank_ns = rank_of(task->mean_ns) + longest_way_on_ns(graph[i].slot);
}

void Core::rank_predecessors(const Task& task, std::uint64_t first_number, std::uint32_t& steps) {
  to_rank_.clear();
  const auto add_those_before = [&](const Task& later) {
    for (std::uint32_t i = 0; i < later.edge_count; ++i) {
      const Slot slot = later.edges[i].predecessor;
      if (slot == no_slot) continue;
      // One that is ready keeps its rank.
      const Task& earlier = tasks_[slot];
      if (earlier.state == State::waiting && earlier.number < first_number)
        to_rank_.push_back(slot);
    }
  };
  add_those_before(task);
  while (!to_rank_.empty() && steps < max_ranked_again) {
    ++steps;
    const Slot slot = to_rank_.back();
    to_rank_.pop_back();
    Task& earlier = tasks_[slot];
    const std::uint64_t rank = rank_of(earlier.mean_ns) + longest_way_on_ns(slot);
    if (rank <= earlier.upward_rank_ns) continue;
    earlier.upward_rank_ns = rank;
    add_those_before(earlier);
    if (!in_gang(earlier.record)) continue;
    for (const TaskRef& ref : gang_of(earlier).members) {
      Task& mate = tasks_[ref.slot];
      if (mate.upward_rank_ns >= rank || !is_pending(mate) || mate.state == State::ready) continue;
      mate.upward_rank_ns = rank;
      add_those_before(mate);
    }
  }
}

}  // namespace aios::scheduler
