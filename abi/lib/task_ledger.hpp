// What a tenant has given to the scheduler and not got back: copies of its unfinished tasks, so
// that the scheduler's next life can be given them again. Plain data, without sockets or clocks;
// numbers of codelets and buffers are the program's.
//
// When the scheduler dies nobody knows how far its tasks had come: each may have run wholly, in
// part or not at all, and so may those behind it. What may not run again, or not after what came
// behind it, ends as `indeterminate`; what waits for such a task ends as `cancelled`. The others
// run again:
//
// - They are idempotent (or joins): running one again right after itself does no harm.
// - But running one again after a later task does, if that has overwritten what the first one
// reads:
//   of `B := f(A)` and `A := g(B)` both may have run, and then the first would read the new A. A
//   later writer of what a task reads bars it, unless the bytes it reads are made anew by an
//   earlier task that runs again itself and writes all of them (mode WRITE).
//
// Of a gang all run again that are left, or none: when one may not, or depends on what failed, the
// others end as `cancelled`. The scheduler is told how many are left.
//
// Tags are told apart by their low 32 bits, as the scheduler does.
#pragma once

#include <tsl/robin_map.h>

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "abi/proto/scheduler.hpp"
#include "abi/runtime/status.hpp"

namespace aios {

class TaskLedger {
 public:
  using Record = proto::scheduler::TaskRecord;

  /// So many ended tasks are remembered for those that depend on them, as the scheduler does.
  static constexpr std::size_t remembered = proto::scheduler::max_pending_per_tenant;
  /// How many deaths of the scheduler one task may see: more than it can in reasonable time.
  static constexpr std::uint32_t max_deaths = 100;
  /// When a task is due whose deadline has passed meanwhile, or is about to: it still goes first.
  static constexpr std::uint64_t late_deadline_ns = 1'000'000'000;

  /// What was added at once: [first, end) in the order of all that was ever added.
  struct Range {
    std::uint64_t first;
    std::uint64_t end;
  };
  /// A task that ended here, and not at the scheduler.
  struct Ended {
    std::uint64_t tag;
    Code code;
    std::string why;
  };

  /// Tags mostly follow one another, and then lie side by side: a full table is a fast one.
  TaskLedger() { index_.max_load_factor(0.8F); }

  /// A batch is about to be sent: all of it is unfinished. `held`: until `admitted` nothing of it
  /// starts. already_exists: a tag is in use; nothing was added. Nor is anything when there is no
  /// memory, for which this throws.
  Result<Range> add(std::span<const Record> batch, bool held = false);
  /// It was refused, as if it had never been added. Needs no memory, nor does the next.
  void remove(Range range);
  /// The same for tasks with tags from `first` to `last`: their graph was refused.
  void withdraw(std::uint64_t first, std::uint64_t last);
  /// The graph with these tags was accepted and is to be done by `deadline_ns`. With `cheaper_of`
  /// its tasks that permit it are of what that says of their codelets.
  using CheaperOf = std::function<std::uint32_t(std::uint32_t codelet)>;
  void admitted(std::uint64_t first, std::uint64_t last, std::uint64_t deadline_ns,
                const CheaperOf& cheaper_of = {});
  /// The scheduler says that it has ended. False: there is no such task, or it ended before.
  bool finish(std::uint64_t tag, bool ok);
  /// The scheduler has cancelled this task; or the pending ones of tags `first` to `last` that were
  /// added before `end`. They do not run again.
  void cancelled(std::uint64_t tag);
  void cancelled(std::uint64_t first, std::uint64_t last, std::uint64_t end);

  std::size_t size() const { return index_.size(); }
  bool contains(std::uint64_t tag) const;
  /// Where the next Range begins.
  std::uint64_t end() const { return next_sequence_; }

  /// The bytes behind a buffer. Buffers whose bytes overlap are of one group; `whole`: all buffers
  /// of the group are the very same bytes.
  struct Memory {
    std::uint32_t group;
    bool whole;
  };
  /// Nothing: no such buffer is registered (any more).
  using MemoryOf = std::function<std::optional<Memory>(std::uint32_t buffer)>;
  /// The scheduler died. Returns the tasks that end by it; the others wait for `replay`.
  std::vector<Ended> lose(const MemoryOf& memory_of);

  /// The next tasks to be given to the scheduler's new life, at most `most`, in the order in which
  /// they were added, without dependencies on what has ended well. Those that depend on what has
  /// not end, and are added to `ended`. Empty: no more. What a call returned and nobody took is
  /// returned again by the next.
  std::span<Record> replay(std::size_t most, std::uint64_t now_ns, std::vector<Ended>& ended);
  /// The scheduler took what the last `replay` returned.
  void replayed() { offered_.clear(); }
  /// The scheduler refused it: it ends so.
  std::vector<Ended> refuse(const Status& status);

  /// A batch that was just added, as a scheduler can know it that has not seen what ended before
  /// its life. `doomed` gets those that depend on what failed then: they are not to be sent, and
  /// end by `end_doomed` once the others are taken.
  std::span<Record> prepare(std::span<const Record> batch, std::vector<Ended>& doomed);
  void end_doomed(const Ended& doomed) { end_here(doomed.tag); }

 private:
  using Slot = std::uint32_t;
  /// Apart from the records: most tasks end without their record being looked at again.
  struct Mark {
    std::uint64_t sequence = 0;
    std::uint64_t deadline_ns = 0;
    std::uint32_t deaths = 0;
    bool held = false;
    bool cancelled = false;
    bool doomed = false;
    bool in_gang = false;
  };
  struct Gang {
    std::uint32_t size = 0;  ///< as this life of the scheduler knows it
    std::uint32_t unfinished = 0;
    std::uint32_t ended = 0;  ///< in this life
  };
  /// A record, less its deadline, of which only what is used is there: mostly one line of memory.
  struct alignas(64) Packed {
    std::array<std::byte, sizeof(Record)> bytes;
  };
  static constexpr std::size_t chunk_entries = 256;
  using Chunk = std::array<Packed, chunk_entries>;
  struct Place {
    std::uint32_t high;  ///< half of the tag
    Slot slot;
  };
  using Index = tsl::robin_map<std::uint32_t, Place>;
  struct Finished {
    std::uint32_t tag;
    bool failed;
  };

  Packed& packed(Slot slot) { return (*chunks_[slot / chunk_entries])[slot % chunk_entries]; }
  const Packed& packed(Slot slot) const {
    return (*chunks_[slot / chunk_entries])[slot % chunk_entries];
  }
  void pack(Slot slot, const Record& record);
  Record unpack(Slot slot) const;
  Mark* find(std::uint64_t tag);
  Slot free_slot();
  Index::iterator forget(Index::iterator at);
  void enter_gang(const Record& record);
  void leave_gang(Slot slot, bool ended);
  void resize_gang(Record& record) const;
  void end_broken_gangs(std::vector<Ended>& ended);
  void remember(std::uint32_t tag, bool failed);
  void end_here(std::uint64_t tag);
  void recall();
  std::optional<std::uint32_t> resolve(Record& record) const;
  std::vector<Slot> in_order() const;
  static std::optional<Ended> fate(const Record& record, const Mark& mark, bool overwritten,
                                   bool released);

  std::vector<std::unique_ptr<Chunk>> chunks_;
  std::vector<Mark> marks_;  ///< by slot
  std::vector<Slot> free_;
  Index index_;  ///< unfinished ones, by the low half of the tag
  std::uint64_t next_sequence_ = 0;
  std::vector<Finished> finished_;  ///< a ring of the last ones
  std::size_t next_finished_ = 0;
  /// What ended before this life of the scheduler, and whether it failed; empty in the first.
  tsl::robin_map<std::uint32_t, bool> earlier_;
  std::size_t finished_since_ = 0;  ///< the loss
  std::unordered_map<std::uint32_t, Gang> gangs_;
  std::deque<Slot> replay_;
  std::vector<Slot> offered_;
  std::vector<Record> batch_;  ///< scratch
};

}  // namespace aios
