#include "drivers/device/executor.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <iterator>
#include <system_error>

#include "abi/runtime/fault_handler.hpp"
#include "abi/runtime/time.hpp"

namespace aios::device {
namespace {

/// The calling thread: a sandbox lets nobody choose for another.
void pin_self(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

}  // namespace

Result<std::unique_ptr<Executor>> Executor::create(const std::vector<int>& cpus,
                                                   std::function<void()> notify) {
  assert(!cpus.empty() && notify);
  std::unique_ptr<Executor> executor(new Executor(cpus.size(), false, std::move(notify)));
  TRY(executor->start_threads(cpus));
  return executor;
}

Result<std::unique_ptr<Executor>> Executor::create_queue(std::size_t depth,
                                                         std::function<void()> notify) {
  assert(depth > 0 && notify);
  std::unique_ptr<Executor> executor(new Executor(depth, true, std::move(notify)));
  TRY(executor->start_threads(std::vector<int>(depth, any_cpu)));
  return executor;
}

Result<void> Executor::start_threads(const std::vector<int>& cpus) {
  try {
    for (const int cpu : cpus) {
      threads_.emplace_back([this, cpu] {
        if (cpu != any_cpu) pin_self(cpu);
        if (queue_)
          work_in_order();
        else
          work();
      });
    }
  } catch (const std::system_error& failure) {
    return error(Code::no_memory, std::string("cannot start a worker thread: ") + failure.what());
  }
  return {};
}

Executor::~Executor() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

Result<> Executor::submit(Job job) {
  assert(job.block_count > 0 && job.run_block && (!queue_ || job.block_count == 1));
  assert(!job.brief || (job.block_count == 1 && job.limit_ns == 0));
  assert(job.after.empty() || job.brief);
  const std::lock_guard lock(mutex_);
  if (runs_.size() + unfinished_brief_.size() >= max_jobs)
    return error(Code::quota, "too many tasks wait in this context; wait for some to finish");
  const std::uint64_t number = ++last_number_;
  news_.fetch_add(1, std::memory_order_release);
  if (job.brief && !queue_) {
    submit_brief(std::move(job), number);
  } else {
    unkicked_ += job.block_count;
    const auto run = std::make_shared<Run>(Run{.job = std::move(job), .number = number});
    note_order(*run);
    runs_.push_back(run);
  }
  return {};
}

void Executor::submit_brief(Job job, std::uint64_t number) {
  if (free_brief_.empty()) free_brief_.push_back(&brief_jobs_.emplace_back());
  BriefJob& brief = *free_brief_.back();
  free_brief_.pop_back();
  unfinished_brief_.emplace(job.id, &brief);
  brief.number = number;
  brief.waits_for = 0;
  brief.cancelled = false;
  for (const std::uint64_t id : job.after) {
    if (const auto at = unfinished_brief_.find(id); at != unfinished_brief_.end()) {
      at->second->waiters.push_back(&brief);
      ++brief.waits_for;
    } else {
      brief.cancelled = brief.cancelled || has_failed(id);
    }
  }
  brief.job = std::move(job);
  if (brief.waits_for == 0)
    brief_.push_back(&brief);
  else
    ++waiting_brief_;
}

void Executor::note_order(Run& run) const {
  for (const std::uint64_t id : run.job.after) {
    const auto at = std::ranges::find(runs_.rbegin(), runs_.rend(), id,
                                      [](const auto& r) { return r->job.id; });
    if (at != runs_.rend())
      run.after.push_back(*at);
    else
      run.cancelled = run.cancelled || has_failed(id);
  }
}

/// Of one that has ended: badly, if the owner has not heard of it yet.
bool Executor::has_failed(std::uint64_t id) const {
  return std::ranges::any_of(finished_,
                             [id](const Finished& f) { return f.id == id && !f.outcome; });
}

/// A thread that looks comes by itself; but one that several kicks would count on takes one job.
void Executor::kick() {
  std::size_t wanted = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto blocks =
        std::min<std::size_t>(std::exchange(unkicked_, 0), queue_ ? 1 : thread_count_);
    const std::size_t looked_for = std::min(blocks, looking_ - counted_on_);
    counted_on_ += looked_for;
    const std::size_t threads = wanted_for_brief();
    const std::size_t brief = worth_a_wake_each() ? std::min(threads, most_woken) : threads;
    wanted = blocks - looked_for + brief - std::min(brief, looking_ - counted_on_);
    // Who leads looks again before it rests.
    if (led_) wanted = 0;
    wanted = std::min(wanted, idle_);
  }
  for (; wanted > 0; --wanted) work_.notify_one();
}

/// Threads, beyond those that look again soon.
std::size_t Executor::wanted_for_brief() const {
  const std::size_t at_once = brief_at_once();
  const std::size_t threads = (brief_.size() + at_once - 1) / at_once;
  return threads - std::min(threads, briefly_busy_);
}

std::vector<Executor::Finished> Executor::take_finished() {
  const std::lock_guard lock(mutex_);
  reported_ = false;
  return std::exchange(finished_, {});
}

/// In a queue only the first is worked on, since the one before it ended. 0: it is not.
std::uint64_t Executor::worked_since(const Run& run) const {
  if (run.start_ns == 0 || (queue_ && &run != runs_.front().get())) return 0;
  return queue_ ? std::max(run.start_ns, last_end_ns_) : run.start_ns;
}

Executor::LimitCheck Executor::check_limits(std::uint64_t now_ns) const {
  const std::lock_guard lock(mutex_);
  LimitCheck check{.exceeded = std::nullopt, .next_ns = 0};
  if (pause_ns_ != 0) return check;
  for (const auto& run : runs_) {
    if (run->job.limit_ns == 0) continue;
    // A job that has not started cannot exceed its limit before that much time from now.
    const std::uint64_t since_ns = worked_since(*run);
    const std::uint64_t start_ns = since_ns != 0 ? since_ns + run->paused_ns : now_ns;
    const std::uint64_t end_ns =
        run->job.limit_ns <= UINT64_MAX - start_ns ? start_ns + run->job.limit_ns : UINT64_MAX;
    if (end_ns <= now_ns && !check.exceeded) check.exceeded = run->job.id;
    if (check.next_ns == 0 || end_ns < check.next_ns) check.next_ns = end_ns;
  }
  return check;
}

void Executor::pause(std::uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  if (pause_ns_ == 0) pause_ns_ = now_ns;
}

void Executor::resume(std::uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t since_ns = std::exchange(pause_ns_, 0);
  if (since_ns == 0) return;
  for (const auto& run : runs_)
    if (const std::uint64_t worked_ns = worked_since(*run); worked_ns != 0)
      run->paused_ns += now_ns - std::max(since_ns, worked_ns);
}

std::shared_ptr<Executor::Run> Executor::next_run() const {
  for (const auto& run : runs_)
    if (run->next_block < run->job.block_count) return run;
  return nullptr;
}

/// Few enough that the threads finish together, many enough that large grids do not spend their
/// time on the lock.
std::uint32_t Executor::chunk_of(const Run& run) const {
  const std::uint32_t left = run.job.block_count - run.next_block;
  const auto share = static_cast<std::uint32_t>(left / (thread_count_ * 4));
  return std::clamp(share, 1u, max_chunk_blocks);
}

/// In order of submission; `run` is the next that is not brief, or null.
bool Executor::brief_is_next(const Run* run) const {
  return !brief_.empty() && (run == nullptr || brief_.front()->number < run->number);
}

void Executor::work() {
  const AlternateStack stack;
  SpinPolicy policy;
  bool looked = false;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const std::shared_ptr<Run> run = next_run();
    if (brief_is_next(run.get())) {
      run_brief(lock);
      looked = false;
      continue;
    }
    if (report(lock)) continue;
    if (run != nullptr) {
      run_blocks(lock, run);
      looked = false;
    } else if (!looked && looking_ == 0) {
      look(lock, policy);
      looked = true;
    } else {
      ++idle_;
      work_.wait(lock);
      --idle_;
      looked = false;
    }
  }
}

/// One thread at a time looks, as long as that has paid of late: to be woken costs more than most
/// brief jobs. It comes back whatever it saw.
void Executor::look(std::unique_lock<std::mutex>& lock, SpinPolicy& policy) {
  const std::uint64_t seen = news_.load(std::memory_order_relaxed);
  ++looking_;
  lock.unlock();
  spin_until(
      policy, [&] { return news_.load(std::memory_order_acquire) != seen; }, [] { return false; });
  lock.lock();
  --looking_;
  counted_on_ = 0;
}

std::size_t Executor::brief_at_once() const {
  const double fit = brief_chunk_ns / std::max(brief_ns_, 1.0);
  return fit >= brief_chunk ? brief_chunk : std::max<std::size_t>(static_cast<std::size_t>(fit), 1);
}

/// How many to take. The threads share what there is; and where others wait for these, one: they
/// can begin as soon as that is told.
std::size_t Executor::share_of_brief() const {
  if (waiting_brief_ > 0) return 1;
  const std::size_t share = (brief_.size() + thread_count_ - 1) / thread_count_;
  return std::min(share, brief_at_once());
}

namespace {
Result<> was_cancelled() {
  return error(Code::cancelled, "one that it waited for failed");
}
}  // namespace

Result<> Executor::run_unless_cancelled(const BriefJob& brief) {
  if (brief.cancelled) return was_cancelled();
  return brief.job.run_block(0);
}

void Executor::run_brief(std::unique_lock<std::mutex>& lock) {
  std::array<BriefJob*, brief_chunk> jobs;
  const std::size_t count = share_of_brief();
  for (std::size_t i = 0; i < count; ++i) {
    jobs[i] = brief_.front();
    brief_.pop_front();
  }
  ++briefly_busy_;
  const bool wakes = worth_a_wake_each() && idle_ > 0 && brief_.size() > looking_ - counted_on_;
  lock.unlock();
  if (wakes) work_.notify_one();
  std::array<Result<>, brief_chunk> outcomes;
  const std::uint64_t begin_ns = now_ns();
  for (std::size_t i = 0; i < count; ++i) outcomes[i] = run_unless_cancelled(*jobs[i]);
  const std::uint64_t end_ns = now_ns();
  const double each_ns = static_cast<double>(end_ns - begin_ns) / static_cast<double>(count);
  lock.lock();
  --briefly_busy_;
  brief_ns_ += (each_ns - brief_ns_) / 4;
  for (std::size_t i = 0; i < count; ++i) finish_brief(*jobs[i], std::move(outcomes[i]), end_ns);
  // Where jobs took long of late the next one may, too.
  if (std::max(brief_ns_, each_ns) > most_kept_back_ns ||
      end_ns - first_finished_ns_ >= keep_back_ns || finished_.size() >= most_kept_back)
    report(lock);
}

void Executor::add_finished(Finished finished, std::uint64_t now_ns) {
  if (finished_.empty()) first_finished_ns_ = now_ns;
  finished_.push_back(std::move(finished));
}

/// Whether that was to be done; without the lock, for who is told may take this thread's core at
/// once, and would then wait for it.
bool Executor::report(std::unique_lock<std::mutex>& lock) {
  if (finished_.empty() || std::exchange(reported_, true)) return false;
  lock.unlock();
  notify_();
  lock.lock();
  return true;
}

/// Those that waited for it may begin; this thread will take some of them itself.
void Executor::finish_brief(BriefJob& job, Result<> outcome, std::uint64_t now_ns) {
  const bool failed = !outcome;
  const std::size_t before = brief_.size();
  for (BriefJob* waiter : job.waiters) {
    waiter->cancelled = waiter->cancelled || failed;
    if (--waiter->waits_for > 0) continue;
    --waiting_brief_;
    brief_.push_back(waiter);
  }
  job.waiters.clear();
  if (brief_.size() > before) {
    news_.fetch_add(1, std::memory_order_release);
    if (wanted_for_brief() > 1 && looking_ == 0 && idle_ > 0) work_.notify_one();
  }
  add_finished({job.job.id, 0, 0, 0, std::move(outcome), false, job.cancelled}, now_ns);
  unfinished_brief_.erase(job.job.id);
  job.job = {};
  free_brief_.push_back(&job);
}

void Executor::run_blocks(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Run>& run) {
  const std::uint32_t begin = run->next_block;
  const std::uint32_t end = begin + chunk_of(*run);
  run->next_block = end;
  ++run->threads;
  const std::uint64_t begin_ns = now_ns();
  if (run->start_ns == 0) run->start_ns = begin_ns;
  lock.unlock();

  std::optional<Status> failure;
  std::uint32_t block = begin;
  for (; block < end && !failure; ++block)
    if (Result<> outcome = run->job.run_block(block); !outcome) failure = outcome.error();
  const std::uint64_t took_ns = now_ns() - begin_ns;

  lock.lock();
  run->busy_ns += took_ns;
  if (failure) {
    if (!run->failure || block - 1 < run->failed_block) {
      run->failure = std::move(failure);
      run->failed_block = block - 1;
    }
    run->next_block = run->job.block_count;  // the rest would be for nothing
  }
  if (--run->threads == 0 && run->next_block == run->job.block_count) finish(lock, run);
}

void Executor::begin_run(Run& run) {
  run.next_block = run.job.block_count;
  ++run.threads;
  run.start_ns = now_ns();
  run.alone = !has_crashed_;
  for (const auto& other : runs_) {
    if (other.get() == &run || other->threads == 0) continue;
    run.alone = false;
    other->alone = false;
  }
}

void Executor::work_in_order() {
  const AlternateStack stack;
  std::unique_lock lock(mutex_);
  while (!stopping_ || !begun_.empty()) {
    if (!led_ && (!begun_.empty() || may_begin())) {
      led_ = true;
      lead(lock);
    } else if (stopping_) {
      return;  // who leads ends what has begun
    } else {
      ++idle_;
      work_.wait(lock);
      --idle_;
    }
  }
}

bool Executor::may_begin() const {
  return on_way_ < thread_count_ && next_run() != nullptr;
}

/// The calling thread begins what there is, and ends what has ended. It gives the lead to another
/// before it waits for a job, and leads no more when it returns.
void Executor::lead(std::unique_lock<std::mutex>& lock) {
  bool looked = false;
  while (!stopping_ || !begun_.empty()) {
    if (!stopping_ && may_begin()) {
      const std::shared_ptr<Run> run = next_run();
      const bool begun = begin(lock, run);
      looked = false;
      // Nothing that this thread begins next may keep it from being told when it ends.
      if (begun && (run->job.limit_ns != 0 || !run->job.has_ended)) {
        begun_.pop_back();
        return end_alone(lock, run);
      }
    } else if (begun_.empty()) {
      if (std::exchange(looked, true)) break;
      look(lock, lead_policy_);
    } else {
      const std::shared_ptr<Run> oldest = begun_.front();
      const bool has_ended = look_at(lock, *oldest);
      if (!has_ended && !stopping_ && may_begin()) continue;
      begun_.pop_front();
      if (!has_ended) return end_alone(lock, oldest);
      end(lock, oldest);
    }
  }
  led_ = false;
}

/// Another thread leads from now on.
void Executor::end_alone(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Run>& run) {
  led_ = false;
  if (idle_ > 0 && (may_begin() || !begun_.empty())) work_.notify_one();
  end(lock, run);
}

/// Whether the device has it.
bool Executor::begin(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Run>& run) {
  begin_run(*run);
  ++on_way_;
  const bool cancelled = run->cancelled =
      run->cancelled || std::ranges::any_of(run->after, [](const auto& before) {
        return before->ended ? before->failure.has_value()
                             : before->job.will_fail && before->job.will_fail();
      });
  lock.unlock();
  Result<> outcome;
  if (cancelled)
    outcome = was_cancelled();
  else if (run->job.begin)
    outcome = run->job.begin();
  lock.lock();
  if (outcome) {
    begun_.push_back(run);
    return true;
  }
  fail(*run, std::move(outcome).error());
  --on_way_;
  finish(lock, run);
  return false;
}

/// Whether it has ended, for as long as it pays to look, and nothing else can begin.
bool Executor::look_at(std::unique_lock<std::mutex>& lock, const Run& run) {
  if (!run.job.has_ended) return false;
  const std::uint64_t seen = news_.load(std::memory_order_relaxed);
  const bool has_room = on_way_ < thread_count_;
  ++looking_;
  lock.unlock();
  bool has_ended = run.job.has_ended();
  if (!has_ended) {
    spin_until(
        lead_policy_, [&] { return has_room && news_.load(std::memory_order_acquire) != seen; },
        [&] { return has_ended = run.job.has_ended(); });
    if (has_ended) lead_policy_.hit();
  }
  lock.lock();
  --looking_;
  counted_on_ = 0;
  return has_ended;
}

void Executor::end(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Run>& run) {
  lock.unlock();
  Result<> outcome = run->job.run_block(0);
  lock.lock();
  if (!outcome) fail(*run, std::move(outcome).error());
  // The device has ended those before it, too; the threads that wait for them are about to say so.
  for (const auto& before : run->after) {
    ended_.wait(lock, [&before] { return before->ended; });
    run->cancelled = run->cancelled || before->failure;
  }
  if (run->cancelled) run->failure = was_cancelled().error();
  --on_way_;
  finish(lock, run);
}

void Executor::fail(Run& run, Status why) {
  has_crashed_ = has_crashed_ || why.code() == Code::crashed;
  run.failure = std::move(why);
}

void Executor::finish(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Run>& run) {
  Result<> outcome;
  if (run->failure) outcome = std::unexpected(*run->failure);
  const std::uint64_t end_ns = now_ns();
  // One that ends behind the first in the queue has not kept it waiting.
  if (runs_.front() == run) last_end_ns_ = end_ns;
  add_finished({run->job.id, run->start_ns, end_ns, run->busy_ns, std::move(outcome), run->alone,
                run->cancelled},
               end_ns);
  if (queue_) {
    run->ended = true;
    run->after.clear();
    ended_.notify_all();
  }
  runs_.erase(std::find(runs_.begin(), runs_.end(), run));
  report(lock);
}

std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

}  // namespace aios::device
