// What is kept of placements.
#include <algorithm>

#include "services/scheduler/core/core.hpp"

namespace aios::scheduler {
namespace {

using Entry = PlacementLog::Entry;

void log_candidate(Entry& entry, const Candidate& candidate, std::uint64_t now_ns,
                   bool shunned = false) {
  if (entry.candidate_count == proto::scheduler::max_logged_candidates) return;
  PlacementLog::Candidate& out = entry.candidates[entry.candidate_count++];
  out = {};
  out.device = static_cast<std::uint16_t>(candidate.device);
  out.at_once = shunned ? PlacementLog::Candidate::fails
                : candidate.memory_wait_ns > 0 || !memory_fits(candidate)
                    ? PlacementLog::Candidate::short_of_memory
                : candidate.at_once ? PlacementLog::Candidate::began_at_once
                                    : std::uint8_t{0};
  if (candidate.cost == nullptr) return;
  out.level = static_cast<std::uint8_t>(candidate.cost->level);
  out.samples = candidate.cost->samples;
  out.wait_ns = static_cast<float>(candidate.free_ns > now_ns ? candidate.free_ns - now_ns : 0);
  out.transfer_ns = static_cast<float>(candidate.transfer_ns);
  out.mean_ns = static_cast<float>(candidate.cost->time.mean * candidate.stretch);
  out.p95_ns = static_cast<float>(candidate.cost->time.p95 * candidate.stretch);
}

}  // namespace

void Core::describe_task(const Task& task, Entry& entry) const {
  entry.number = task.number;
  entry.tag = task.record.tag;
  entry.job_id = task.tenant->job->id;
  entry.submitted_ns = task.submitted_ns;
  entry.ready_ns = task.ready_ns;
  entry.after_number = task.after_number;
  entry.attempts = task.attempts;
  entry.names = names_of(task);
  entry.dependency_count = task.record.dependency_count;
  std::copy_n(task.record.dependencies, entry.dependency_count, entry.dependencies.begin());
}

/// How long of its wait, until now, something else went on.
std::uint64_t Core::wait_within(const Task& task, std::uint64_t since_ns,
                                std::uint64_t until_ns) const {
  const std::uint64_t from_ns = std::max(task.ready_ns, since_ns);
  const std::uint64_t to_ns = std::min(now_ns_, until_ns);
  return to_ns - std::min(from_ns, to_ns);
}

/// Called when the task has been placed on `candidates_[choice.candidate]`.
void Core::log_placement(Task& task, const Choice& choice) {
  Entry& entry = log_.add(task.tenant->job->user->uid);
  describe_task(task, entry);
  entry.placed_ns = now_ns_;
  const DeviceId device = candidates_[choice.candidate].device;
  const Context& context = task.tenant->job->contexts[device];
  entry.opening_ns = wait_within(task, context.asked_ns, context.ready_ns);
  // Of one that is loaded only now, what that takes is added when it is there.
  const auto& loadings = task.tenant->codelets[task.record.codelet].loadings;
  if (const auto loading = loadings.find(device); loading != loadings.end())
    entry.loading_ns = wait_within(task, loading->second.since_ns, loading->second.until_ns);
  entry.state = static_cast<std::uint32_t>(proto::scheduler::TaskState::running);
  entry.reason = static_cast<std::uint8_t>(task.placed_because);
  entry.considered =
      static_cast<std::uint8_t>(std::min<std::size_t>(candidates_.size() + shunned_.size(), 255));
  // The chosen one first, then the others by device, and those that were not to be chosen.
  log_candidate(entry, candidates_[choice.candidate], now_ns_);
  for (std::uint32_t i = 0; i < candidates_.size(); ++i)
    if (i != choice.candidate) log_candidate(entry, candidates_[i], now_ns_);
  for (const Candidate& one : shunned_) log_candidate(entry, one, now_ns_, true);
  task.logged = entry.sequence;
}

void Core::log_end(const Task& task, const Outcome& outcome) {
  Entry* entry = log_.find(task.logged);
  if (entry == nullptr) return;
  using proto::scheduler::TaskState;
  entry->state =
      static_cast<std::uint32_t>(outcome.code == Code::ok ? TaskState::done : TaskState::failed);
  entry->status = static_cast<std::uint32_t>(outcome.code);
  if (outcome.run == nullptr) return;
  entry->start_ns = outcome.run->start_ns;
  entry->end_ns = outcome.run->end_ns;
  entry->peak_memory_bytes = outcome.run->peak_memory_bytes;
  entry->transfer_ns = outcome.run->transfer_ns;
  entry->ahead_ns = outcome.run->ahead_ns;
  entry->alone_ns = alone_ns(task, *outcome.run, task.width);
  entry->width = static_cast<std::uint8_t>(task.width);
}

}  // namespace aios::scheduler
