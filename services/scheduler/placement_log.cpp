#include "services/scheduler/placement_log.hpp"

#include <algorithm>

namespace aios::scheduler {

PlacementLog::Entry& PlacementLog::add(std::uint32_t user) {
  if (ring_.empty()) ring_.resize(capacity);
  Kept& kept = ring_[++last_ % capacity];
  kept.entry = {};
  kept.entry.sequence = last_;
  kept.user = user;
  return kept.entry;
}

const PlacementLog::Kept* PlacementLog::kept(std::uint64_t sequence) const {
  if (sequence == 0 || sequence > last_) return nullptr;
  const Kept& kept = ring_[sequence % capacity];
  return kept.entry.sequence == sequence ? &kept : nullptr;
}

PlacementLog::Entry* PlacementLog::find(std::uint64_t sequence) {
  const Kept* found = kept(sequence);
  return found == nullptr ? nullptr : const_cast<Entry*>(&found->entry);
}

const PlacementLog::Entry* PlacementLog::next(std::uint64_t after, std::uint32_t user,
                                              bool all_users) const {
  if (after >= last_) return nullptr;  // a client's number: adding to it may wrap around
  const std::uint64_t oldest = last_ >= capacity ? last_ - capacity + 1 : 1;
  for (std::uint64_t i = std::max(after, oldest - 1) + 1; i <= last_; ++i)
    if (const Kept* one = kept(i); all_users || one->user == user) return &one->entry;
  return nullptr;
}

const PlacementLog::Entry* PlacementLog::of_task(std::uint64_t number, std::uint32_t user,
                                                 bool all_users) const {
  for (std::uint64_t i = last_; kept(i) != nullptr; --i)
    if (const Kept* one = kept(i); one->entry.number == number && (all_users || one->user == user))
      return &one->entry;
  return nullptr;
}

}  // namespace aios::scheduler
