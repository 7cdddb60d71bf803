#include "services/storage/group_commit.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <iterator>
#include <string>

namespace aios::storage {

void GroupCommit::add(Change change, bool in_data_file, std::uint64_t now_ns, Done done) {
  waiting_.push_back({std::move(change), in_data_file, now_ns, std::move(done)});
}

void GroupCommit::with_metadata(std::function<void()> use) {
  if (state_ == State::committing)
    waiting_uses_.push_back(std::move(use));
  else
    use();
}

bool GroupCommit::is_due(std::uint64_t now_ns, bool more_to_come) const {
  if (waiting_.empty()) return false;
  return !more_to_come || waiting_.size() >= max_batch_changes ||
         now_ns >= waiting_.front().since_ns + max_batch_wait_ns;
}

std::optional<std::uint64_t> GroupCommit::deadline_ns() const {
  if (fatal_ || state_ != State::idle || waiting_.empty()) return std::nullopt;
  return waiting_.front().since_ns + max_batch_wait_ns;
}

bool GroupCommit::advance(std::uint64_t now_ns, bool more_to_come) {
  if (fatal_) return false;
  if (state_ == State::committing && background_.finished()) {
    end_commit();
    return true;
  }
  if (state_ == State::flushed) {
    begin_commit();
    return true;
  }
  if (state_ == State::idle && is_due(now_ns, more_to_come)) {
    begin_batch();
    return true;
  }
  return false;
}

void GroupCommit::begin_batch() {
  const std::size_t count = std::min(waiting_.size(), max_batch_changes);
  const auto end = waiting_.begin() + static_cast<std::ptrdiff_t>(count);
  batch_.assign(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(end));
  waiting_.erase(waiting_.begin(), end);
  ++batches_;
  if (std::none_of(batch_.begin(), batch_.end(), [](const Item& i) { return i.in_data_file; }))
    return begin_commit();
  state_ = State::flushing;
  disk_.flush([this](std::int64_t result) { flush_ended(result); });
}

void GroupCommit::flush_ended(std::int64_t result) {
  state_ = State::flushed;
  if (result == 0) return;
  if (flush_failed_) flush_failed_();
  const Status failed(Code::io_error, std::string("flushing the data file: ") +
                                          std::strerror(static_cast<int>(-result)));
  // What waits for the next batch was written before this flush ended, and is lost as well.
  std::vector<Item> lost;
  const auto take_lost = [&lost](auto& items) {
    const auto kept = std::stable_partition(items.begin(), items.end(),
                                            [](const Item& item) { return !item.in_data_file; });
    std::move(kept, items.end(), std::back_inserter(lost));
    items.erase(kept, items.end());
  };
  take_lost(batch_);
  take_lost(waiting_);
  for (Item& item : lost) item.done(std::unexpected(failed), item.change);
}

void GroupCommit::begin_commit() {
  if (batch_.empty()) {
    state_ = State::idle;
    return;
  }
  state_ = State::committing;
  committing_.clear();
  for (Item& item : batch_) committing_.push_back(std::move(item.change));
  background_.start([this] { outcome_ = metadata_.commit(committing_); });
}

void GroupCommit::end_commit() {
  state_ = State::idle;
  std::vector<Item> batch = std::exchange(batch_, {});
  std::vector<Change> changes = std::exchange(committing_, {});
  assert(batch.size() == changes.size());
  for (std::size_t i = 0; i < batch.size(); ++i) batch[i].change = std::move(changes[i]);
  if (!outcome_ && outcome_.error().code() != Code::no_space) {
    fatal_ = outcome_.error();
    return;
  }
  if (outcome_) {
    space_.displace(*std::move(outcome_));
    for (Item& item : batch) item.done({}, item.change);
  } else {
    end_full_disk(std::move(batch));
  }
  for (auto& use : std::exchange(waiting_uses_, {})) use();
}

/// Puts give way to removals, which make room.
void GroupCommit::end_full_disk(std::vector<Item> batch) {
  const Status failed = outcome_.error();
  const bool has_puts = std::any_of(batch.begin(), batch.end(), is_put);
  for (auto item = batch.rbegin(); item != batch.rend(); ++item) {
    if (has_puts && !is_put(*item))
      waiting_.push_front(std::move(*item));
    else
      item->done(std::unexpected(failed), item->change);
  }
}

}  // namespace aios::storage
