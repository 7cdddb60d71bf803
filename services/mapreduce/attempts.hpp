// Which attempts of a job's map and reduce tasks run, where, and which task gets a second one.
//
// A job has two places whose tasks run in processes of their own. Tasks begin at one of them, its
// home. A task that takes far longer than others of its kind is begun once more at the other place,
// into memory of its own; the attempt that ends first is the task's, and what comes of the other is
// dropped. A place at which nothing has ended since is given up: it is closed, and what ran there
// begins anew at the other, which is home from then on.
//
// Who takes far longer (Spark's spark.speculation.multiplier and .quantile): at least a second, and
// 1.5 times the median of those that ended, once three quarters of the phase are done; before that,
// when the median says less and there is more to be done, three times. Nobody is judged by fewer
// than three, the first reduce tasks by those of map. As in LATE (Zaharia et al., OSDI 2008) the
// one that has taken longest comes first, and one in ten of the threads, but at least one, may be
// busy with second attempts.
//
// Time counts from when a task shows that it has begun: what waits for a busy machine is no
// straggler, except beside one, or after five seconds.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "abi/runtime/status.hpp"
#include "services/mapreduce/actions.hpp"

namespace aios::mapreduce {

class JobContext;

class Attempts {
 public:
  /// The task, to write its result into `output`.
  using Builder = std::function<StartTask(const Slice& output)>;
  /// A task that has ended: it wrote into `output`, which need not be what it was started with.
  struct Ended {
    std::uint64_t tag;
    Slice output;
    TaskOutcome outcome;
  };

  explicit Attempts(JobContext& job) : job_(job) {}
  Attempts(const Attempts&) = delete;

  /// A map or reduce task. `output` is this object's until the task has ended. The first word there
  /// is overwritten now, and again by the task when it begins.
  void start(std::uint64_t tag, TaskKind kind, const Slice& output, Builder build);
  /// For a task that has one attempt only, and no output.
  Place home() const { return home_; }

  /// An attempt has ended well; see `take_ended`.
  void done(std::uint64_t attempt, const TaskOutcome& outcome);
  /// The task that has failed by it; nothing when it has another attempt, or is done.
  std::optional<Ended> failed(std::uint64_t attempt);
  /// Tasks that are done, each once.
  std::vector<Ended> take_ended() { return std::exchange(ended_, {}); }

  /// Looks who has begun, and begins a second attempt if one is due. Several times a second.
  void look(std::uint64_t now_ns);
  /// Memory that a second attempt waits for; 0: none.
  std::uint64_t wanted_bytes() const { return wanted_bytes_; }

  /// The client has made the job of the spare place. invalid_argument: it was not asked for.
  Result<void> spare_added();
  void place_ready(Place place);
  /// There will be none.
  void place_refused(Place place, const Status& why);
  void place_closed(Place place);

 private:
  enum class State : std::uint8_t { absent, opening, open, closing, refused };
  struct Site {
    State state = State::absent;
    std::uint64_t ended = 0;  ///< attempts, since the job began
  };
  struct Attempt {
    std::uint64_t tag;  ///< of the task
    Place place;
    Slice output;
    bool second;
    bool lost = false;           ///< the task is done without it
    std::uint64_t seen_ns = 0;   ///< when it was looked at first
    std::uint64_t begun_ns = 0;  ///< when it was first seen to have begun
  };
  struct Task {
    TaskKind kind;
    Builder build;
    std::vector<std::uint64_t> attempts;                  ///< at most two
    std::uint32_t seconds = 0;                            ///< second attempts, so far
    std::array<std::uint64_t, place_count> ended_then{};  ///< of the sites, when that began
    std::optional<Ended> ended;
    bool told = false;
  };

  void launch(std::uint64_t tag, const Slice& output, Place place, bool second);
  void launch_at_home(std::uint64_t tag, const Slice& output);
  Attempt take(std::uint64_t attempt);
  void lose(std::uint64_t attempt);
  void settle(std::uint64_t tag);
  void give_up(Place place);
  void open(Place place);
  void see(Attempt& attempt, std::uint64_t now_ns) const;
  std::uint64_t straggler(std::uint64_t now_ns) const;
  std::uint64_t patience_ns(TaskKind kind) const;
  void second_attempt(std::uint64_t attempt);
  bool is_slow(Place place) const;
  std::size_t seconds_running() const;
  std::deque<std::uint64_t>& durations(TaskKind kind);
  const std::deque<std::uint64_t>& durations(TaskKind kind) const;

  struct Waiting {
    std::uint64_t tag;
    Slice output;
  };

  JobContext& job_;
  std::array<Site, place_count> sites_{Site{State::open}, Site{}};
  Place home_ = main_place;
  bool has_spare_ = false;  ///< the spare place's job is there
  std::map<std::uint64_t, Task> tasks_;
  std::map<std::uint64_t, Attempt> attempts_;
  std::vector<Waiting> waiting_;  ///< until home is open
  std::vector<Ended> ended_;
  std::array<std::deque<std::uint64_t>, 2> durations_;  ///< of the last ones, of map and reduce
  std::uint64_t wanted_bytes_ = 0;
};

}  // namespace aios::mapreduce
