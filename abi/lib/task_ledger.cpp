#include "abi/lib/task_ledger.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <new>
#include <unordered_map>

#include "abi/include/aios/codelet.h"

namespace aios {

namespace {

namespace flag = proto::scheduler::task_flag;

std::uint32_t low(std::uint64_t tag) {
  return static_cast<std::uint32_t>(tag);
}
std::uint32_t high(std::uint64_t tag) {
  return static_cast<std::uint32_t>(tag >> 32);
}
std::uint32_t buffer_of(std::uint32_t use) {
  return use & 0x0fffffff;
}
std::uint32_t mode_of(std::uint32_t use) {
  return use >> 28;
}
bool reads(std::uint32_t mode) {
  return mode != AIOS_MODE_WRITE && mode != AIOS_MODE_SCRATCH;
}
bool writes(std::uint32_t mode) {
  return mode != AIOS_MODE_READ;
}
bool may_run_again(const TaskLedger::Record& record) {
  return (record.flags & (flag::idempotent | flag::join)) != 0;
}

bool in_gang(const TaskLedger::Record& record) {
  return (record.flags & flag::gang) != 0;
}

constexpr std::size_t head_bytes = offsetof(TaskLedger::Record, buffers);

/// Where the lists of a record are, as far as they are used: the scheduler may never have looked at
/// it.
template <class Call>
void for_each_list(const TaskLedger::Record& record, Call call) {
  using Record = TaskLedger::Record;
  const auto list = [&](std::size_t offset, std::uint32_t count, std::uint32_t most,
                        std::size_t size) {
    if (count != 0) call(offset, std::min(count, most) * size);
  };
  list(offsetof(Record, buffers), record.buffer_count, proto::context::max_task_buffers,
       sizeof record.buffers[0]);
  list(offsetof(Record, dependencies), record.dependency_count, proto::scheduler::max_dependencies,
       sizeof record.dependencies[0]);
  list(offsetof(Record, arguments), record.argument_bytes, proto::context::max_argument_bytes, 1);
  list(offsetof(Record, gang), in_gang(record) ? 2 : 0, 2, sizeof record.gang);
}

std::string because_of(std::uint32_t tag) {
  return "task " + std::to_string(tag) + ", on which it depends, failed";
}

/// Finds out which tasks may not run again for what others have done to memory since.
class Overwritten {
 public:
  explicit Overwritten(const TaskLedger::MemoryOf& memory_of) : memory_of_(memory_of) {}

  /// The next task, in order. False: it names a buffer that is gone.
  bool add(const TaskLedger::Record& record) {
    const auto position = static_cast<std::uint32_t>(barred_.size());
    barred_.push_back(false);
    bool known = true;
    // The scheduler may never have looked at it.
    const auto uses = std::span(record.buffers)
                          .first(std::min(record.buffer_count, proto::context::max_task_buffers));
    for (const std::uint32_t use : uses) known = note_read(use, position) && known;
    for (const std::uint32_t use : uses) note_write(use, position);
    return known;
  }
  bool barred(std::size_t position) const { return barred_[position]; }

 private:
  struct Group {
    bool made_anew = false;
    std::vector<std::uint32_t> readers;  ///< of what was there before any of these tasks
  };

  bool note_read(std::uint32_t use, std::uint32_t position) {
    const auto memory = memory_of_(buffer_of(use));
    if (!memory) return false;
    Group& group = groups_[memory->group];
    if (reads(mode_of(use)) && !group.made_anew) group.readers.push_back(position);
    return true;
  }

  void note_write(std::uint32_t use, std::uint32_t position) {
    const auto memory = memory_of_(buffer_of(use));
    if (!memory || !writes(mode_of(use))) return;
    Group& group = groups_[memory->group];
    std::erase_if(group.readers, [&](std::uint32_t reader) {
      if (reader == position) return false;
      barred_[reader] = true;
      return true;
    });
    if (mode_of(use) == AIOS_MODE_WRITE && memory->whole) group.made_anew = true;
  }

  const TaskLedger::MemoryOf& memory_of_;
  std::unordered_map<std::uint32_t, Group> groups_;
  std::vector<bool> barred_;  ///< by position
};

}  // namespace

// ---- what is unfinished -------------------------------------------------------------------------

void TaskLedger::pack(Slot slot, const Record& record) {
  std::byte* const to = packed(slot).bytes.data();
  const auto* const from = reinterpret_cast<const std::byte*>(&record);
  const auto copy = [&](std::size_t offset, std::size_t bytes) {
    std::memcpy(to + offset, from + offset, bytes);
  };
  copy(0, head_bytes);
  for_each_list(record, copy);
  marks_[slot].deadline_ns = record.deadline_ns;
}

TaskLedger::Record TaskLedger::unpack(Slot slot) const {
  Record record{};
  const std::byte* const from = packed(slot).bytes.data();
  const auto copy = [&](std::size_t offset, std::size_t bytes) {
    std::memcpy(reinterpret_cast<std::byte*>(&record) + offset, from + offset, bytes);
  };
  copy(0, head_bytes);
  for_each_list(record, copy);
  record.deadline_ns = marks_[slot].deadline_ns;
  return record;
}

/// A free one, which is no longer when it is taken out of `free_`.
TaskLedger::Slot TaskLedger::free_slot() {
  if (free_.empty()) {
    const auto first = static_cast<Slot>(chunks_.size() * chunk_entries);
    // As many as it may ever have to hold: giving a slot back must not fail.
    free_.reserve(first + chunk_entries);
    marks_.resize(first + chunk_entries);
    chunks_.push_back(std::make_unique_for_overwrite<Chunk>());
    for (Slot i = chunk_entries; i-- > 0;) free_.push_back(first + i);
  }
  return free_.back();
}

/// It is unfinished.
void TaskLedger::enter_gang(const Record& record) {
  Gang& gang = gangs_[record.gang];
  if (gang.unfinished++ == 0 && gang.ended == 0) gang.size = record.gang_size;
}

/// It has ended, or it is as if it had never come.
void TaskLedger::leave_gang(Slot slot, bool ended) {
  const auto at = gangs_.find(unpack(slot).gang);
  if (at == gangs_.end()) return;
  Gang& gang = at->second;
  --gang.unfinished;
  gang.ended += ended ? 1 : 0;
  if (gang.unfinished == 0 && (gang.ended == 0 || gang.ended >= gang.size)) gangs_.erase(at);
}

/// How many of it this life of the scheduler sees; the last one needs no gang.
void TaskLedger::resize_gang(Record& record) const {
  const auto at = gangs_.find(record.gang);
  if (!in_gang(record) || at == gangs_.end()) return;
  record.gang_size = at->second.size;
  if (record.gang_size >= 2) return;
  record.flags &= ~flag::gang;
  record.gang = record.gang_size = 0;
}

/// As if it had never come, for which no memory is needed. The one after it.
TaskLedger::Index::iterator TaskLedger::forget(Index::iterator at) {
  const Slot slot = at->second.slot;
  if (marks_[slot].in_gang) leave_gang(slot, false);
  free_.push_back(slot);
  return index_.erase(at);
}

TaskLedger::Mark* TaskLedger::find(std::uint64_t tag) {
  const auto at = index_.find(low(tag));
  if (at == index_.end() || at->second.high != high(tag)) return nullptr;
  return &marks_[at->second.slot];
}

bool TaskLedger::contains(std::uint64_t tag) const {
  const auto at = index_.find(low(tag));
  return at != index_.end() && at->second.high == high(tag);
}

Result<TaskLedger::Range> TaskLedger::add(std::span<const Record> batch, bool held) {
  const std::uint64_t first = next_sequence_;
  std::size_t added = 0;
  const auto undo = [&] {
    for (const Record& record : batch.first(std::exchange(added, 0)))
      forget(index_.find(low(record.tag)));
    next_sequence_ = first;
  };
  try {
    for (const Record& record : batch) {
      const Slot slot = free_slot();
      if (!index_.emplace(low(record.tag), Place{high(record.tag), slot}).second) {
        undo();
        return error(Code::already_exists,
                     "task " + std::to_string(record.tag) +
                         ": an unfinished task has a tag with the same low 32 bits");
      }
      ++added;
      free_.pop_back();
      marks_[slot] = Mark{.sequence = next_sequence_++, .held = held};
      pack(slot, record);
      if (!in_gang(record)) continue;
      enter_gang(record);
      marks_[slot].in_gang = true;
    }
  } catch (const std::bad_alloc&) {
    undo();
    throw;
  }
  return Range{first, next_sequence_};
}

void TaskLedger::remove(Range range) {
  for (auto at = index_.begin(); at != index_.end();) {
    const std::uint64_t sequence = marks_[at->second.slot].sequence;
    at = sequence >= range.first && sequence < range.end ? forget(at) : std::next(at);
  }
}

void TaskLedger::withdraw(std::uint64_t first, std::uint64_t last) {
  for (std::uint64_t tag = first; tag <= last; ++tag)
    if (contains(tag)) forget(index_.find(low(tag)));
}

void TaskLedger::admitted(std::uint64_t first, std::uint64_t last, std::uint64_t deadline_ns,
                          const CheaperOf& cheaper_of) {
  for (std::uint64_t tag = first; tag <= last; ++tag) {
    Mark* const one = find(tag);
    if (one == nullptr) continue;
    if (cheaper_of) {
      const Slot slot = index_[low(tag)].slot;
      Record record = unpack(slot);
      if ((record.flags & flag::may_be_cheaper) != 0 && (record.flags & flag::join) == 0) {
        record.codelet = cheaper_of(record.codelet);
        pack(slot, record);
      }
    }
    one->held = false;
    one->deadline_ns =
        one->deadline_ns == 0 ? deadline_ns : std::min(one->deadline_ns, deadline_ns);
  }
}

bool TaskLedger::finish(std::uint64_t tag, bool ok) {
  const auto at = index_.find(low(tag));
  if (at == index_.end() || at->second.high != high(tag)) return false;
  if (!gangs_.empty() && marks_[at->second.slot].in_gang) leave_gang(at->second.slot, true);
  free_.push_back(at->second.slot);
  index_.erase(at);
  remember(low(tag), !ok);
  // This scheduler knows it by itself.
  if (!earlier_.empty()) earlier_.erase(low(tag));
  return true;
}

void TaskLedger::remember(std::uint32_t tag, bool failed) {
  if (finished_.size() < remembered)
    finished_.push_back({tag, failed});
  else
    finished_[next_finished_] = {tag, failed};
  next_finished_ = (next_finished_ + 1) % remembered;
  if (++finished_since_ == remembered) earlier_.clear();
}

void TaskLedger::end_here(std::uint64_t tag) {
  if (finish(tag, false)) earlier_[low(tag)] = true;
}

void TaskLedger::cancelled(std::uint64_t tag) {
  if (Mark* const one = find(tag)) one->cancelled = true;
}

void TaskLedger::cancelled(std::uint64_t first, std::uint64_t last, std::uint64_t end) {
  for (const auto& [low_half, place] : index_) {
    const std::uint64_t tag = std::uint64_t{place.high} << 32 | low_half;
    Mark& one = marks_[place.slot];
    // Of those that may not run again nobody knows whether they were pending.
    if (tag >= first && tag <= last && one.sequence < end && may_run_again(unpack(place.slot)))
      one.cancelled = true;
  }
}

// ---- the scheduler's death ----------------------------------------------------------------------

std::vector<TaskLedger::Slot> TaskLedger::in_order() const {
  std::vector<Slot> slots;
  slots.reserve(index_.size());
  for (const auto& [tag, place] : index_) slots.push_back(place.slot);
  std::ranges::sort(slots, {}, [this](Slot slot) { return marks_[slot].sequence; });
  return slots;
}

/// What ended so far, the last meaning of each tag.
void TaskLedger::recall() {
  earlier_.clear();
  finished_since_ = 0;
  const std::size_t oldest = finished_.size() < remembered ? 0 : next_finished_;
  for (std::size_t i = 0; i < finished_.size(); ++i) {
    const Finished& one = finished_[(oldest + i) % finished_.size()];
    earlier_[one.tag] = one.failed;
  }
}

std::vector<TaskLedger::Ended> TaskLedger::lose(const MemoryOf& memory_of) {
  recall();
  replay_.clear();
  offered_.clear();
  const std::vector<Slot> order = in_order();
  Overwritten overwritten(memory_of);
  std::vector<bool> released;
  for (const Slot slot : order) released.push_back(!overwritten.add(unpack(slot)));
  std::vector<Ended> ended;
  for (std::size_t i = 0; i < order.size(); ++i) {
    Mark& one = marks_[order[i]];
    ++one.deaths;
    if (auto end = fate(unpack(order[i]), one, overwritten.barred(i), released[i]))
      ended.push_back(*std::move(end));
    else
      replay_.push_back(order[i]);
  }
  if (!gangs_.empty()) end_broken_gangs(ended);
  for (const Ended& one : ended) end_here(one.tag);
  // What has ended until now is not known to the next life.
  for (auto& [number, gang] : gangs_) {
    gang.size -= std::min(gang.size, gang.ended);
    gang.ended = 0;
  }
  return ended;
}

/// Adds to `ended` the rest of the gangs of which one does not run again, from those in `replay_`.
void TaskLedger::end_broken_gangs(std::vector<Ended>& ended) {
  tsl::robin_map<std::uint32_t, bool> gone;  // tags that fail
  std::unordered_map<std::uint32_t, bool> broken;
  const auto fails = [&](const Record& record) {
    if (in_gang(record) && broken.contains(record.gang)) return true;
    const auto count = std::min(record.dependency_count, proto::scheduler::max_dependencies);
    return std::any_of(record.dependencies, record.dependencies + count, [&](std::uint32_t tag) {
      const auto before = earlier_.find(tag);
      return gone.contains(tag) ||
             (before != earlier_.end() && before->second && !index_.contains(tag));
    });
  };
  for (const Ended& one : ended) {
    const Slot slot = index_.at(low(one.tag)).slot;
    gone[low(one.tag)] = true;
    if (marks_[slot].in_gang) broken[unpack(slot).gang] = true;
  }
  // A gang that breaks takes others with it, also those before it.
  for (bool more = true; more;) {
    more = false;
    for (const Slot slot : replay_) {
      const Record record = unpack(slot);
      if (gone.contains(low(record.tag)) || !fails(record)) continue;
      gone[low(record.tag)] = true;
      if (in_gang(record)) broken[record.gang] = true;
      more = true;
    }
  }
  std::erase_if(replay_, [&](Slot slot) {
    const Record record = unpack(slot);
    if (!in_gang(record) || !gone.contains(low(record.tag))) return false;
    ended.push_back({record.tag, Code::cancelled, "a task of its gang does not run again"});
    return true;
  });
}

std::optional<TaskLedger::Ended> TaskLedger::fate(const Record& record, const Mark& one,
                                                  bool overwritten, bool released) {
  const auto as = [&](Code code, const char* why) { return Ended{record.tag, code, why}; };
  if (one.doomed)
    return as(Code::cancelled, "a task on which it depends failed before the scheduler died");
  if (one.cancelled) return as(Code::cancelled, "cancelled by its client");
  if (one.held)
    return as(Code::indeterminate,
              "the scheduler died before it said whether its graph is accepted");
  if (!may_run_again(record))
    return as(
        Code::indeterminate,
        "the scheduler died; it may have run, and is not idempotent, so it does not run again");
  if (overwritten)
    return as(Code::indeterminate,
              "the scheduler died; it may have run, and so may a later task that overwrites what "
              "it reads, so it does not run again");
  if (released)
    return as(Code::indeterminate, "the scheduler died, and a buffer of it has been released");
  if (one.deaths > max_deaths)
    return as(Code::crashed, "the scheduler died 100 times before it was done");
  return std::nullopt;
}

// ---- the scheduler's next life ------------------------------------------------------------------

/// Leaves out dependencies on what has ended well. The tag of one that has not, if there is one.
std::optional<std::uint32_t> TaskLedger::resolve(Record& record) const {
  // One that the scheduler will refuse.
  if (record.dependency_count > proto::scheduler::max_dependencies) return std::nullopt;
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < record.dependency_count; ++i) {
    const std::uint32_t tag = record.dependencies[i];
    if (const auto at = index_.find(tag); at != index_.end()) {
      if (marks_[at->second.slot].doomed) return tag;
    } else if (const auto before = earlier_.find(tag); before != earlier_.end()) {
      if (before->second) return tag;
      continue;
    }
    record.dependencies[kept++] = tag;
  }
  std::fill(record.dependencies + kept, record.dependencies + record.dependency_count, 0u);
  record.dependency_count = kept;
  return std::nullopt;
}

std::span<TaskLedger::Record> TaskLedger::replay(std::size_t most, std::uint64_t now_ns,
                                                 std::vector<Ended>& ended) {
  replay_.insert(replay_.begin(), offered_.begin(), offered_.end());
  offered_.clear();
  batch_.clear();
  while (batch_.size() < most && !replay_.empty()) {
    const Slot slot = replay_.front();
    replay_.pop_front();
    Record record = unpack(slot);
    if (const auto failed = resolve(record)) {
      ended.push_back({record.tag, Code::cancelled, because_of(*failed)});
      end_here(record.tag);
      continue;
    }
    resize_gang(record);
    if (record.deadline_ns != 0)
      record.deadline_ns = std::max(record.deadline_ns, now_ns + late_deadline_ns);
    batch_.push_back(record);
    offered_.push_back(slot);
  }
  return batch_;
}

std::vector<TaskLedger::Ended> TaskLedger::refuse(const Status& status) {
  std::vector<Ended> ended;
  for (const Slot slot : offered_)
    ended.push_back({unpack(slot).tag, status.code(), status.message()});
  offered_.clear();
  for (const Ended& one : ended) end_here(one.tag);
  return ended;
}

std::span<TaskLedger::Record> TaskLedger::prepare(std::span<const Record> batch,
                                                  std::vector<Ended>& doomed) {
  batch_.clear();
  for (const Record& given : batch) {
    Record record = given;
    if (const auto failed = resolve(record)) {
      marks_[index_[low(record.tag)].slot].doomed = true;
      doomed.push_back({record.tag, Code::cancelled, because_of(*failed)});
    } else {
      resize_gang(record);
      batch_.push_back(record);
    }
  }
  return batch_;
}

}  // namespace aios
