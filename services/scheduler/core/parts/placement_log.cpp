#include "services/scheduler/core/parts/placement_log.hpp"

#include <algorithm>

#include "services/scheduler/core/parts/prefetch.hpp"

namespace aios::scheduler {

PlacementLog::Reply PlacementLog::describe(const Entry& entry) {
  Reply out{};
  out.sequence = entry.sequence;
  out.number = entry.number;
  out.tag = entry.tag;
  out.job_id = entry.job_id;
  out.submitted_ns = entry.submitted_ns;
  out.ready_ns = entry.ready_ns;
  out.after_number = entry.after_number;
  out.placed_ns = entry.placed_ns;
  out.start_ns = entry.start_ns;
  out.end_ns = entry.end_ns;
  out.peak_memory_bytes = entry.peak_memory_bytes;
  out.opening_ns = entry.opening_ns;
  out.loading_ns = entry.loading_ns;
  out.transfer_ns = entry.transfer_ns;
  out.ahead_ns = entry.ahead_ns;
  out.alone_ns = entry.alone_ns;
  out.width = entry.width;
  out.state = entry.state;
  out.status = entry.status;
  out.attempts = entry.attempts;
  out.reason = entry.reason;
  out.considered = entry.considered;
  out.dependency_count = entry.dependency_count;
  std::copy_n(entry.dependencies.begin(), entry.dependency_count, out.dependencies);
  out.candidate_count = entry.candidate_count;
  std::copy_n(entry.candidates.begin(), entry.candidate_count, out.candidates);
  out.job_name = entry.names->job;
  out.codelet = entry.names->codelet;
  return out;
}

PlacementLog::Entry& PlacementLog::add(std::uint32_t user) {
  // Its memory is touched as it fills: most of those who simulate place a few hundred tasks.
  if (ring_.empty()) ring_.reserve(capacity);
  if (ring_.size() < capacity) ring_.emplace_back();
  Entry& entry = ring_[last_++ % capacity];
  prefetch_to_write(ring_.data() + last_ % capacity, sizeof(Facts));
  static_cast<Facts&>(entry) = {};
  entry.sequence = last_;
  entry.user = user;
  return entry;
}

const PlacementLog::Entry* PlacementLog::kept(std::uint64_t sequence) const {
  if (sequence == 0 || sequence > last_) return nullptr;
  const Entry& entry = ring_[(sequence - 1) % capacity];
  return entry.sequence == sequence ? &entry : nullptr;
}

PlacementLog::Entry* PlacementLog::find(std::uint64_t sequence) {
  return const_cast<Entry*>(kept(sequence));
}

const PlacementLog::Entry* PlacementLog::next(std::uint64_t after, std::uint32_t user,
                                              bool all_users) const {
  if (after >= last_) return nullptr;  // a client's number: adding to it may wrap around
  const std::uint64_t oldest = last_ >= capacity ? last_ - capacity + 1 : 1;
  for (std::uint64_t i = std::max(after, oldest - 1) + 1; i <= last_; ++i)
    if (const Entry* one = kept(i); all_users || one->user == user) return one;
  return nullptr;
}

const PlacementLog::Entry* PlacementLog::of_task(std::uint64_t number, std::uint32_t user,
                                                 bool all_users) const {
  for (std::uint64_t i = last_; kept(i) != nullptr; --i)
    if (const Entry* one = kept(i); one->number == number && (all_users || one->user == user))
      return one;
  return nullptr;
}

}  // namespace aios::scheduler
