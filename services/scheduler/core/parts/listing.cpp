#include "services/scheduler/core/parts/listing.hpp"

#include <algorithm>

namespace aios::scheduler {
namespace {

bool is_unfinished(const TaskRef& ref, const TaskTable& tasks) {
  const Task* task = tasks.find(ref);
  return task != nullptr && task->state != State::finished;
}

}  // namespace

void UnfinishedIndex::add(TaskRef task, const TaskTable& tasks) {
  if (refs_.size() >= sweep_at_) sweep(tasks);
  refs_.push_back(task);
}

void UnfinishedIndex::finished(std::uint64_t number, const TaskTable& tasks) {
  if (refs_.empty() || refs_.front().number != number) return;
  while (!refs_.empty() && !is_unfinished(refs_.front(), tasks)) refs_.pop_front();
}

void UnfinishedIndex::sweep(const TaskTable& tasks) {
  std::erase_if(refs_, [&](const TaskRef& r) { return !is_unfinished(r, tasks); });
  sweep_at_ = 2 * refs_.size() + 1024;
}

const Task* UnfinishedIndex::next(std::uint64_t after, const TaskTable& tasks) {
  constexpr std::ptrdiff_t patience = 64;
  const auto above = [&] {
    return std::upper_bound(refs_.begin(), refs_.end(), after,
                            [](std::uint64_t n, const TaskRef& r) { return n < r.number; });
  };
  const auto from = above();
  const auto to = refs_.end() - from > patience ? from + patience : refs_.end();
  const auto at = std::find_if(from, to, [&](const TaskRef& r) { return is_unfinished(r, tasks); });
  if (at != to) return tasks.find(*at);
  if (to == refs_.end()) return nullptr;
  sweep(tasks);
  const auto again = above();
  return again == refs_.end() ? nullptr : tasks.find(*again);
}

FinishedRing::Entry& FinishedRing::add() {
  if (entries_.size() < max_finished_listed) return entries_.emplace_back();
  Entry& entry = entries_[oldest_];
  oldest_ = (oldest_ + 1) % max_finished_listed;
  return entry;
}

const FinishedRing::Entry* FinishedRing::next(std::uint64_t after, std::uint32_t user,
                                              bool all_users) const {
  const Entry* best = nullptr;
  for (const Entry& e : entries_)
    if ((all_users || e.user == user) && e.number > after &&
        (best == nullptr || e.number < best->number))
      best = &e;
  return best;
}

const std::string* FinishedRing::failure_of(std::uint64_t number, std::uint32_t user,
                                            bool all_users) const {
  const auto at = std::ranges::find(entries_, number, &Entry::number);
  if (at == entries_.end() || at->status == 0 || !(all_users || at->user == user)) return nullptr;
  return &at->why;
}

}  // namespace aios::scheduler
