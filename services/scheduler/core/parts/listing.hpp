// Which tasks there are, for listings, without cost to the scheduling of them.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <memory_resource>
#include <string>
#include <vector>

#include "abi/proto/scheduler.hpp"
#include "services/scheduler/core/parts/limits.hpp"
#include "services/scheduler/core/parts/task_table.hpp"

namespace aios::scheduler {

/// What a task is called; shared by all of one codelet, and by what is kept of those that ended.
struct TaskNames {
  proto::kernel::Name job;
  proto::Text<64> codelet;
};

/// Of one task after another. Most have the same names as the one whose place they take: to share
/// what is shared already would cost two atomic operations for each.
class SharedNames {
 public:
  SharedNames& operator=(const std::shared_ptr<const TaskNames>& names) {
    if (names_ != names) names_ = names;
    return *this;
  }
  const TaskNames* operator->() const { return names_.get(); }

 private:
  std::shared_ptr<const TaskNames> names_;
};

/// The unfinished tasks of one tenant, by number. Finished ones leave when they are the first, and
/// when there are too many behind one that is not: each sweep is paid for by those that finished
/// since the last.
class UnfinishedIndex {
 public:
  using Refs = std::pmr::deque<TaskRef>;

  explicit UnfinishedIndex(std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : refs_(memory) {}

  void add(TaskRef task, const TaskTable& tasks);
  /// To be called when the task of that number has finished.
  void finished(std::uint64_t number, const TaskTable& tasks);
  /// Null when there is none above `after`.
  const Task* next(std::uint64_t after, const TaskTable& tasks);
  const Refs& refs() const { return refs_; }  ///< some of them finished

 private:
  void sweep(const TaskTable& tasks);
  Refs refs_;
  std::size_t sweep_at_ = 1024;
};

/// The last max_finished_listed tasks, of all users.
class FinishedRing {
 public:
  struct Facts {
    std::uint64_t number = 0;
    std::uint64_t tag = 0;
    std::uint64_t job_id = 0;
    std::uint64_t submitted_ns = 0;
    std::uint64_t start_ns = 0;
    std::uint64_t end_ns = 0;
    std::uint64_t transfer_ns = 0;
    std::uint64_t predicted_transfer_ns = 0;
    std::uint32_t user = 0;
    std::uint32_t status = 0;
    std::uint32_t attempts = 0;
    std::int32_t priority = 0;
    std::uint32_t device = 0;  ///< where there were attempts
  };
  struct Entry : Facts {
    SharedNames names;
    std::string why;  ///< it failed
  };
  /// To be filled in, whole; valid until the next call.
  Entry& add();
  /// The one with the least number above `after` that `user` may see.
  const Entry* next(std::uint64_t after, std::uint32_t user, bool all_users) const;
  /// Null when it is not there, has not failed, or is another user's.
  const std::string* failure_of(std::uint64_t number, std::uint32_t user, bool all_users) const;

 private:
  std::vector<Entry> entries_;
  std::size_t oldest_ = 0;  ///< once there are max_finished_listed
};

}  // namespace aios::scheduler
