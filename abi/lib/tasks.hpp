// The object behind aios_tenant.
//
// It survives the scheduler: when the link to it is lost, `lost` decides which tasks end by that
// (task_ledger.hpp), and the tenant is opened again, with what was registered, and given the
// others. Nothing waits for that but calls, each until its own deadline. No thread is ours, so it
// goes on whenever somebody drives the endpoint.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include "abi/include/aios/tasks.h"
#include "abi/lib/core.hpp"
#include "abi/lib/registrations.hpp"
#include "abi/lib/task_client.hpp"
#include "abi/lib/task_ledger.hpp"

namespace aios::lib {

/// A graph that waits to be accepted: its number at the scheduler, in one of that's lives.
struct HeldGraph {
  std::uint32_t number = 0;  ///< 0: none
  std::uint64_t life = 0;
};

}  // namespace aios::lib

struct aios_tenant final : aios::lib::ClientEndpoint {
  /// How long the scheduler may be away before the tenant is given up; tasks.h tells it.
  static constexpr std::uint64_t patience_ns = 30 * aios::ns_per_s;

  aios_tenant(std::shared_ptr<aios::lib::Core> of, aios::Handle port);
  ~aios_tenant() override { close(); }
  aios::Result<void> open(aios::Deadline deadline);
  /// Ends everything under way, while what its callbacks use is still there.
  void close();

  /// Starts a call by `start(tenant, done)` and waits for its answer. When the scheduler dies over
  /// it, it is started again. Not with `life`, which is what `life()` was: then the call is made
  /// only in that one. peer_closed: it is over; indeterminate: it ended over the call.
  template <class T, class Start>
  aios::Result<T> ask(aios::Deadline deadline, Start start,
                      std::optional<std::uint64_t> life = std::nullopt);
  /// Which life of the scheduler's this is. For those who hold the mutex.
  std::uint64_t life() const { return life_; }

  using Records = std::span<const aios::TaskTenant::TaskRecord>;
  /// One batch. Waits for a free place in the arena first: busy is not an answer.
  aios::Result<void> submit(Records records, aios::Deadline deadline);
  /// Any number, batch after batch, several on their way at once. Waits while too many tasks are
  /// pending, and meanwhile takes completions in. `taken` is how many were accepted, the first.
  /// `before_send(first, count)` is called with the place of each batch. With a graph that is held,
  /// peer_closed: the scheduler that held it is gone, and nothing of it was begun.
  using BeforeSend = std::function<void(std::size_t, std::size_t)>;
  aios::Result<void> submit_many(Records records, aios::Deadline deadline, std::size_t& taken,
                                 BeforeSend before_send = {}, aios::lib::HeldGraph graph = {});

  /// What programs know by numbers; under the mutex.
  aios::Registrations registered;
  aios::Result<aios::Registrations::Kept> keep(aios::Handle region, bool writable) {
    const std::lock_guard lock(mutex);
    return registered.keep(region, writable);
  }
  /// The scheduler has accepted the graph with these tags, perhaps in cheaper variants; or it is as
  /// if they never were submitted.
  void admitted(std::uint64_t first, std::uint64_t last, std::uint64_t deadline_ns, bool cheaper) {
    aios::TaskLedger::CheaperOf cheaper_of;
    if (cheaper) cheaper_of = [this](std::uint32_t one) { return registered.cheaper_of(one); };
    ledger_.admitted(first, last, deadline_ns, cheaper_of);
  }
  void withdraw(std::uint64_t first, std::uint64_t last) { ledger_.withdraw(first, last); }
  /// Cancels what is pending of these tags, and sees to it that nothing brings it back.
  aios::Result<aios::TaskTenant::Cancelled> cancel(std::uint64_t first, std::uint64_t last,
                                                   aios::Deadline deadline);
  aios::Result<void> cancel(std::uint64_t tag, aios::Deadline deadline);
  aios::Result<std::string> failure(std::uint64_t tag, aios::Deadline deadline);

  /// So many tags for a graph, the first of them; its completions go to `watcher` until `unwatch`.
  std::uint64_t watch(std::size_t count, std::function<void(const aios_completion&)> watcher);
  void unwatch(std::uint64_t first_tag, bool all_ended);

  /// Completions are at hand, or there will be no more.
  bool has_news() const { return !finished.empty() || broken.has_value(); }
  /// They are at hand of every task that was accepted, and there is one.
  bool has_all() const { return !finished.empty() && ledger_.size() == 0 && ended_.empty(); }
  /// Has the scheduler tell what is finished as soon as that are `least`, unless it was asked to
  /// tell so soon or sooner.
  void want_completions(std::size_t least = 1);

  aios::Deadline next_deadline() const override;
  void kernel_lost() override;

  aios::TaskLink link;
  aios::TaskTenant tenant;
  std::deque<aios_completion> finished;
  std::optional<aios::Status> broken;  ///< why there are no more completions
  /// The caller's share.
  std::shared_ptr<aios_tenant> self;

 protected:
  bool work() override;

 private:
  struct Watched {
    std::uint64_t end_tag;
    std::function<void(const aios_completion&)> watcher;
  };
  struct Series;
  using Answered = std::move_only_function<void(aios::Result<void>)>;
  using Ended = aios::TaskLedger::Ended;
  struct Failure {
    std::uint64_t tag;
    std::string text;
  };

  bool is_open();
  aios::Result<void> await_open(std::unique_lock<std::mutex>& lock, aios::Deadline deadline);
  void send(Records batch, Answered answered, const std::shared_ptr<Series>& series);
  void send_added(Records batch, aios::TaskLedger::Range range, Answered answered,
                  const std::shared_ptr<Series>& series);
  bool may_send_more(const Series& series);
  void send_next(const std::shared_ptr<Series>& series);
  void arrived(aios::Result<aios::TaskTenant::Completions> completions);
  void deliver(const aios_completion& one);
  void end(const Ended& one);
  void tell_ended();

  void lost();
  void open_again();
  void register_all();
  void name_cheaper();
  void send_again();
  void replayed(const aios::Result<void>& taken, std::size_t count);
  bool refused(const aios::Status& status, std::size_t count);
  void opened();
  void failed(const aios::Status& status);
  aios::TaskCallback<void> step(std::function<void()> next);
  /// Does what nobody would do once more: where there is no memory for it the tenant is given up
  /// (which needs none), and all who wait learn that.
  template <class Body>
  void or_give_up(Body body) {
    try {
      body();
    } catch (const std::bad_alloc&) {
      changed();
      if (!broken) broken.emplace(aios::Code::no_memory, "out of memory");
    }
  }

  aios::TaskLedger ledger_;
  std::uint32_t asked_ = 0;                   ///< calls for completions on their way
  std::size_t asked_least_ = 0;               ///< of the last of them
  bool keep_all_ = false;                     ///< completions are taken in however many there are
  std::uint32_t batches_ = 0;                 ///< on their way
  std::map<std::uint64_t, Watched> watched_;  ///< by first tag
  std::uint64_t next_tag_ = 1ull << 31;
  std::deque<Failure> failures_;  ///< of tasks that ended here
  /// By the scheduler's death. Told when its successor is there: what its contexts were at has
  /// ended by then, and no longer writes into the program's memory.
  std::vector<Ended> ended_;

  bool open_ = false;  ///< the scheduler has all that there is
  bool ever_open_ = false;
  std::uint64_t life_ = 0;                             ///< grows with each that is lost
  aios::Deadline until_ = aios::Deadline::never();     ///< for its being opened
  std::uint32_t registering_ = 0;                      ///< calls on their way
  std::size_t batch_limit_ = 0;                        ///< of what is sent again
  aios::Deadline again_at_ = aios::Deadline::never();  ///< when the step is taken once more,
  bool begins_anew_ = false;                           ///< or the first one
  bool wants_completions_ = false;                     ///< asked for in the life before
};

template <class T, class Start>
aios::Result<T> aios_tenant::ask(aios::Deadline deadline, Start start,
                                 std::optional<std::uint64_t> life) {
  struct Answer {
    bool done = false;
    aios::Result<T> result = aios::error(aios::Code::internal);
  };
  TRY(core().check_process());
  TRY(aios::lib::prepare_to_sleep());
  std::unique_lock lock(mutex);
  for (;;) {
    TRY(await_open(lock, deadline));
    if (life && *life != life_)
      return aios::error(aios::Code::peer_closed, "the scheduler died before it was asked");
    const std::uint64_t asked_in = life_;
    const auto answer = std::make_shared<Answer>();
    start(tenant, aios::TaskCallback<T>([this, answer](aios::Result<T> result) {
            answer->result = std::move(result);
            answer->done = true;
            changed();
          }));
    aios::lib::finish(*this, lock, [&] { return answer->done; });
    const bool is_lost = !answer->result && asked_in != life_ &&
                         answer->result.error().code() == aios::Code::peer_closed;
    if (!is_lost) return std::move(answer->result);
    if (life) return aios::error(aios::Code::indeterminate, "the scheduler died over the call");
  }
}
