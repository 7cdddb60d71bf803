// Runs jobs, each a number of independent blocks, on one pinned thread per hardware thread.
//
// Jobs start in the order of their submission, as threads come free; the blocks of one job spread
// over every idle thread, and several jobs run at once. Brief jobs, of one block each, are taken
// several at a time, so that taking, waking and reporting cost little for each; and they may wait
// for brief jobs submitted before them. Where they take so long that each is worth a wake
// the owner wakes two threads, and each that takes one wakes another while some are left: to wake
// all takes longer than such a job. Called by one thread, the owner; the threads only run blocks
// and report.
//
// For a device with a queue of its own there is another order: a job of one block, brief or not, is
// handed to the device by `begin`, which is done in the order of submission, and `run_block` waits
// for its end. One thread, which leads, does all that as long as it pays to look whether the oldest
// job `has_ended`; before it waits for that another takes the lead. The threads are then how many
// jobs are on their way at once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "abi/runtime/sleep.hpp"
#include "abi/runtime/status.hpp"

namespace aios::device {

class Executor {
 public:
  struct Job {
    std::uint64_t id = 0;  ///< chosen by the owner, repeated in Finished
    std::uint32_t block_count = 1;
    std::uint64_t limit_ns = 0;  ///< from the start of its first block; 0: none
    bool brief = false;          ///< of one block that takes microseconds, without a limit
    /// Runs one block, on any thread and at the same time as others. No exception may escape.
    std::function<Result<>(std::uint32_t block)> run_block;
    /// On a queue: before run_block, which is left out when it fails; never at the same time as
    /// that of another job.
    std::function<Result<>()> begin = {};
    /// On a queue, once it has begun: whether run_block would not have to wait. Takes little; none
    /// where nobody can tell.
    std::function<bool()> has_ended = {};
    /// On a queue, once it has begun: whether it is known already that run_block will fail, so that
    /// what comes after it need not run in vain.
    std::function<bool()> will_fail = {};
    /// Ids of brief jobs that have to end before this one, brief itself, begins. Those that are not
    /// waiting or running any more have ended. When one fails this one is cancelled, and not run. A
    /// queue keeps the order by itself: there it may have run by then, in vain.
    std::vector<std::uint64_t> after = {};
  };
  struct Finished {
    std::uint64_t id;
    std::uint64_t start_ns;  ///< CLOCK_MONOTONIC
    std::uint64_t end_ns;
    std::uint64_t busy_ns;  ///< of its threads, all together; 0 of a brief one, and on a queue
    Result<> outcome;       ///< of several failures the one of the lowest block
    /// No other job was on its way between its beginning and its end, nor had any crashed before
    /// it began: if it crashed, it did so by itself.
    bool alone;
    bool cancelled;  ///< one that it came after has failed; so is its outcome
  };
  struct LimitCheck {
    std::optional<std::uint64_t> exceeded;  ///< id of a job that runs longer than it may
    std::uint64_t next_ns;                  ///< when to check again; 0: no job has a limit
  };
  /// In `cpus`: a thread that is not pinned.
  static constexpr int any_cpu = -1;
  static constexpr std::size_t max_jobs = 4096;
  static constexpr std::uint32_t max_chunk_blocks = 256;
  /// So many brief jobs a thread takes at a time at most, and for how long, judged by those before
  /// them; when they end they are reported.
  static constexpr std::size_t brief_chunk = 8;
  static constexpr double brief_chunk_ns = 50'000;
  /// How long the end of a brief job may be kept back while the thread goes on with others: whoever
  /// is told takes the core from somebody, which costs as much as many brief jobs. Where the last
  /// ones took longer than `most_kept_back_ns` each nothing is kept back.
  static constexpr std::uint64_t keep_back_ns = 200'000;
  static constexpr double most_kept_back_ns = 100'000;
  /// And of how many: until they are told they take of what may be on its way to these threads.
  static constexpr std::size_t most_kept_back = 64;
  /// Threads that the owner wakes at a time for brief jobs that are worth a wake each.
  static constexpr std::size_t most_woken = 2;

  /// Starts one thread per entry of `cpus`, pinned to it where the host allows. `notify` is called,
  /// by one of them, once when jobs have finished since the last take_finished.
  /// no_memory: a thread could not be started.
  static Result<std::unique_ptr<Executor>> create(const std::vector<int>& cpus,
                                                  std::function<void()> notify);
  /// Waits for the blocks that are running; jobs not finished by then are forgotten.
  ~Executor();

  /// `depth` threads, not pinned, for a device with a queue of its own.
  static Result<std::unique_ptr<Executor>> create_queue(std::size_t depth,
                                                        std::function<void()> notify);

  bool is_queue() const { return queue_; }

  /// It begins when a thread looks, at the latest after the next `kick`. quota: max_jobs are
  /// waiting or running.
  Result<> submit(Job job);
  /// Wakes as many threads as what was submitted needs; for brief jobs those that wake the others.
  void kick();

  /// What has finished since the last call, in order of completion. Never blocks.
  std::vector<Finished> take_finished();

  /// While paused no limit is exceeded, and the time counts for none.
  LimitCheck check_limits(std::uint64_t now_ns) const;
  void pause(std::uint64_t now_ns);
  void resume(std::uint64_t now_ns);

 private:
  struct Run {
    Job job;
    std::uint64_t number = 0;        // in order of submission
    std::uint32_t next_block = 0;    // first one that no thread has taken
    std::uint32_t threads = 0;       // working on it
    std::uint32_t failed_block = 0;  // valid with a failure
    std::uint64_t start_ns = 0;
    std::uint64_t busy_ns = 0;
    bool alone = true;
    std::uint64_t paused_ns = 0;  // since it started, in all
    std::optional<Status> failure;
    // On a queue.
    std::vector<std::shared_ptr<Run>> after = {};  // until it has ended itself
    bool cancelled = false;
    bool ended = false;
  };
  Executor(std::size_t thread_count, bool queue, std::function<void()> notify)
      : thread_count_(thread_count), queue_(queue), notify_(std::move(notify)) {}
  Result<void> start_threads(const std::vector<int>& cpus);
  struct BriefJob {
    Job job;
    std::uint64_t number = 0;
    std::uint32_t waits_for = 0;          // that many of those before it
    bool cancelled = false;               // one of those before it failed
    std::vector<BriefJob*> waiters = {};  // each once for every time that it named this one
  };
  void work();
  void look(std::unique_lock<std::mutex>& lock, SpinPolicy& policy);
  bool brief_is_next(const Run* run) const;
  std::size_t brief_at_once() const;
  void submit_brief(Job job, std::uint64_t number);
  std::size_t share_of_brief() const;
  static Result<> run_unless_cancelled(const BriefJob& brief);
  void run_brief(std::unique_lock<std::mutex>& lock);
  void finish_brief(BriefJob& job, Result<> outcome, std::uint64_t now_ns);
  std::size_t wanted_for_brief() const;
  bool worth_a_wake_each() const { return brief_at_once() == 1; }
  void run_blocks(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Run>& run);
  void work_in_order();
  void lead(std::unique_lock<std::mutex>& lock);
  bool may_begin() const;
  bool begin(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Run>& run);
  void end_alone(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Run>& run);
  bool look_at(std::unique_lock<std::mutex>& lock, const Run& run);
  void end(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Run>& run);
  void note_order(Run& run) const;
  bool has_failed(std::uint64_t id) const;
  void begin_run(Run& run);
  std::shared_ptr<Run> next_run() const;
  std::uint64_t worked_since(const Run& run) const;
  std::uint32_t chunk_of(const Run& run) const;
  void fail(Run& run, Status why);  // on a queue
  void finish(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Run>& run);
  void add_finished(Finished finished, std::uint64_t now_ns);
  bool report(std::unique_lock<std::mutex>& lock);

  const std::size_t thread_count_;
  const bool queue_;
  const std::function<void()> notify_;
  std::vector<std::thread> threads_;
  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::deque<std::shared_ptr<Run>> runs_;   // unfinished, in order of submission
  bool led_ = false;                        // of a queue: a thread leads
  std::deque<std::shared_ptr<Run>> begun_;  // there, what nobody waits for yet, the oldest first
  std::size_t on_way_ = 0;                  // there, with those that are waited for
  SpinPolicy lead_policy_;                  // of who leads
  std::condition_variable ended_;           // there, a job
  std::deque<BriefJob> brief_jobs_;         // places
  std::vector<BriefJob*> free_brief_;       // of these those that are free
  std::unordered_map<std::uint64_t, BriefJob*> unfinished_brief_;  // by id
  std::deque<BriefJob*> brief_;    // can begin, in the order in which that came about
  std::size_t waiting_brief_ = 0;  // for others
  std::uint64_t last_number_ = 0;
  std::atomic<std::uint64_t> news_ = 0;  // counts what makes it worth to look
  std::size_t idle_ = 0;                 // threads that wait
  std::size_t looking_ = 0;              // threads that will look at the queue by themselves
  std::size_t counted_on_ = 0;           // of these, for jobs that are not brief
  std::size_t briefly_busy_ = 0;         // threads that will look again soon
  double brief_ns_ = 0;                  // what a brief job takes, of the last ones
  std::uint64_t unkicked_ = 0;           // blocks of jobs that are not brief, since the last kick
  std::vector<Finished> finished_;
  std::uint64_t first_finished_ns_ = 0;  // of these
  bool reported_ = false;                // that there are some
  std::uint64_t last_end_ns_ = 0;
  bool has_crashed_ = false;    // the device, so that all that begins crashes too
  std::uint64_t pause_ns_ = 0;  // since when; 0: not paused
  bool stopping_ = false;
};

/// The hardware threads this process may use, ascending. At least one.
std::vector<int> usable_cpus();

}  // namespace aios::device
