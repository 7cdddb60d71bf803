#include "services/mapreduce/attempts.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "services/mapreduce/job_context.hpp"

namespace aios::mapreduce {

namespace {

constexpr std::uint64_t least_patience_ns = 1'000'000'000;
/// What has not begun by then is not waiting for a busy machine any more.
constexpr std::uint64_t waiting_ns = 5'000'000'000;
constexpr std::size_t least_samples = 3;
constexpr std::size_t most_samples = 1024;
/// Of one task: more would wait for the same again.
constexpr std::uint32_t most_seconds = 3;
/// In the first word of a task's output until it begins.
constexpr std::uint64_t not_begun = ~0ull;

std::uint64_t median(std::vector<std::uint64_t> all) {
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  std::nth_element(all.begin(), middle, all.end());
  return *middle;
}

Place other(Place place) {
  return place == main_place ? spare_place : main_place;
}

}  // namespace

// ---- attempts ---------------------------------------------------------------------------------

void Attempts::start(std::uint64_t tag, TaskKind kind, const Slice& output, Builder build) {
  tasks_.emplace(tag, Task{kind, std::move(build), {}, 0, {}, {}, false});
  launch_at_home(tag, output);
}

void Attempts::launch_at_home(std::uint64_t tag, const Slice& output) {
  if (sites_[home_].state == State::open) return launch(tag, output, home_, false);
  waiting_.push_back({tag, output});
  if (sites_[home_].state == State::absent) open(home_);
}

void Attempts::launch(std::uint64_t tag, const Slice& output, Place place, bool second) {
  std::memcpy(job_.bytes(output).data(), &not_begun, sizeof not_begun);
  Task& task = tasks_.at(tag);
  const std::uint64_t attempt = job_.next_tag();
  StartTask action = task.build(output);
  action.tag = attempt;
  action.place = place;
  attempts_.emplace(attempt, Attempt{tag, place, output, second});
  task.attempts.push_back(attempt);
  job_.start_task(std::move(action));
}

Attempts::Attempt Attempts::take(std::uint64_t number) {
  const auto found = attempts_.find(number);
  Attempt attempt = found->second;
  attempts_.erase(found);
  std::erase(tasks_.at(attempt.tag).attempts, number);
  return attempt;
}

void Attempts::done(std::uint64_t number, const TaskOutcome& outcome) {
  if (!attempts_.contains(number)) return;
  Attempt attempt = take(number);
  ++sites_[attempt.place].ended;
  Task& task = tasks_.at(attempt.tag);
  if (attempt.lost) {
    job_.pool.free(attempt.output);
    return settle(attempt.tag);
  }
  std::deque<std::uint64_t>& known = durations(task.kind);
  known.push_back(outcome.duration_ns);
  if (known.size() > most_samples) known.pop_front();
  if (attempt.second) ++job_.progress.second_attempts_won;
  task.ended = Ended{attempt.tag, attempt.output, outcome};
  for (const std::uint64_t loser : task.attempts) lose(loser);
  settle(attempt.tag);
}

std::optional<Attempts::Ended> Attempts::failed(std::uint64_t number) {
  if (!attempts_.contains(number)) return std::nullopt;
  Attempt attempt = take(number);
  ++sites_[attempt.place].ended;
  Task& task = tasks_.at(attempt.tag);
  if (attempt.lost || !task.attempts.empty()) {
    job_.pool.free(attempt.output);
    if (attempt.lost) settle(attempt.tag);
    return std::nullopt;
  }
  tasks_.erase(attempt.tag);
  return Ended{attempt.tag, attempt.output, {}};
}

/// One that is known to be slow alone may run to its end, if what it reads is not written
/// meanwhile.
void Attempts::lose(std::uint64_t number) {
  Attempt& attempt = attempts_.at(number);
  attempt.lost = true;
  const Task& task = tasks_.at(attempt.tag);
  const Site& site = sites_[attempt.place];
  if (site.state != State::open) return;
  const bool stands_still = site.ended == task.ended_then[attempt.place];
  if (stands_still || task.kind == TaskKind::reduce)
    give_up(attempt.place);
  else
    job_.actions.emplace_back(CancelTask{attempt.place, number});
}

/// What a reduce task reads is used again, so its loser must be gone first.
void Attempts::settle(std::uint64_t tag) {
  Task& task = tasks_.at(tag);
  const bool alone = task.attempts.empty();
  if (!task.told && (alone || task.kind == TaskKind::map)) {
    task.told = true;
    ended_.push_back(*task.ended);
  }
  if (alone) tasks_.erase(tag);
}

// ---- places -----------------------------------------------------------------------------------

void Attempts::give_up(Place place) {
  sites_[place].state = State::closing;
  if (home_ == place) home_ = other(place);
  job_.actions.emplace_back(ClosePlace{place});
}

void Attempts::open(Place place) {
  sites_[place].state = State::opening;
  if (place == spare_place && !has_spare_)
    job_.events.push_back({proto::mapreduce::EventKind::add_spare});
  else
    job_.actions.emplace_back(OpenPlace{place});
}

Result<void> Attempts::spare_added() {
  if (has_spare_ || sites_[spare_place].state != State::opening)
    return error(Code::invalid_argument, "a spare job is given that was not asked for");
  has_spare_ = true;
  job_.actions.emplace_back(OpenPlace{spare_place});
  return {};
}

void Attempts::place_ready(Place place) {
  if (sites_[place].state != State::opening) return;
  sites_[place].state = State::open;
  if (place != home_) return;
  for (const Waiting& one : std::exchange(waiting_, {})) launch(one.tag, one.output, place, false);
}

void Attempts::place_refused(Place place, const Status& why) {
  sites_[place].state = State::refused;
  if (place == home_) job_.fail(JobFailure{why});
}

void Attempts::place_closed(Place place) {
  if (sites_[place].state != State::closing) return;
  sites_[place].state = State::absent;
  std::vector<std::uint64_t> there;
  for (const auto& [number, attempt] : attempts_)
    if (attempt.place == place) there.push_back(number);
  for (const std::uint64_t number : there) {
    Attempt attempt = take(number);
    if (!attempt.lost && tasks_.at(attempt.tag).attempts.empty()) {
      launch_at_home(attempt.tag, attempt.output);
      continue;
    }
    job_.pool.free(attempt.output);
    if (attempt.lost) settle(attempt.tag);
  }
  if (place == home_ && !waiting_.empty()) open(place);
}

// ---- stragglers -------------------------------------------------------------------------------

void Attempts::look(std::uint64_t now_ns) {
  for (auto& [number, attempt] : attempts_) see(attempt, now_ns);
  wanted_bytes_ = 0;
  if (seconds_running() >= std::max<std::size_t>(job_.settings.threads / 10, 1)) return;
  const std::uint64_t late = straggler(now_ns);
  if (late == 0) return;
  const Place place = other(attempts_.at(late).place);
  if (sites_[place].state == State::absent) open(place);
  if (sites_[place].state == State::open) second_attempt(late);
}

void Attempts::see(Attempt& attempt, std::uint64_t now_ns) const {
  if (attempt.seen_ns == 0) attempt.seen_ns = now_ns;
  if (attempt.begun_ns != 0) return;
  std::uint64_t word;
  std::memcpy(&word, job_.bytes(attempt.output).data(), sizeof word);
  if (word != not_begun) attempt.begun_ns = now_ns;
}

/// The attempt that has taken longest of those that take too long; 0: none does.
std::uint64_t Attempts::straggler(std::uint64_t now_ns) const {
  std::uint64_t found = 0, longest_ns = 0;
  for (const auto& [number, attempt] : attempts_) {
    const Task& task = tasks_.at(attempt.tag);
    if (task.attempts.size() != 1 || task.ended || task.seconds == most_seconds) continue;
    if (sites_[attempt.place].state != State::open) continue;
    const bool waits = attempt.begun_ns == 0 && !is_slow(attempt.place);
    const std::uint64_t since_ns = attempt.begun_ns != 0 ? attempt.begun_ns : attempt.seen_ns;
    const std::uint64_t least_ns = std::max(patience_ns(task.kind), waits ? waiting_ns : 0);
    if (now_ns - since_ns <= longest_ns || now_ns - since_ns < least_ns) continue;
    longest_ns = now_ns - since_ns;
    found = number;
  }
  return found;
}

std::uint64_t Attempts::patience_ns(TaskKind kind) const {
  const bool few = durations(kind).size() < least_samples;
  const std::deque<std::uint64_t>& known = durations(few ? TaskKind::map : kind);
  if (known.size() < least_samples) return ~0ull;
  const auto& p = job_.progress;
  const bool most_is_done = kind == TaskKind::map
                                ? p.mapped_bytes >= job_.settings.input_bytes / 4 * 3
                                : !few && p.merged_bytes >= p.merge_bytes / 4 * 3;
  const std::uint64_t usual_ns = median({known.begin(), known.end()});
  return std::max(least_patience_ns, most_is_done ? usual_ns + usual_ns / 2 : 3 * usual_ns);
}

void Attempts::second_attempt(std::uint64_t number) {
  const Attempt& first = attempts_.at(number);
  const auto output = job_.allocate(first.output.bytes);
  if (!output) {
    wanted_bytes_ = first.output.bytes;
    return;
  }
  Task& task = tasks_.at(first.tag);
  ++task.seconds;
  ++job_.progress.second_attempts;
  for (Place place = 0; place < place_count; ++place) task.ended_then[place] = sites_[place].ended;
  launch(first.tag, *output, other(first.place), true);
}

/// Some task there has a second attempt elsewhere.
bool Attempts::is_slow(Place place) const {
  return std::ranges::any_of(attempts_, [&](const auto& entry) {
    return entry.second.place == place && !entry.second.second &&
           tasks_.at(entry.second.tag).attempts.size() > 1;
  });
}

std::size_t Attempts::seconds_running() const {
  return static_cast<std::size_t>(std::ranges::count_if(tasks_, [](const auto& entry) {
    return entry.second.attempts.size() > 1 && !entry.second.ended;
  }));
}

std::deque<std::uint64_t>& Attempts::durations(TaskKind kind) {
  return durations_[kind == TaskKind::reduce ? 1 : 0];
}

const std::deque<std::uint64_t>& Attempts::durations(TaskKind kind) const {
  return durations_[kind == TaskKind::reduce ? 1 : 0];
}

}  // namespace aios::mapreduce
