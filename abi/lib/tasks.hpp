// The object behind aios_tenant.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "abi/include/aios/tasks.h"
#include "abi/lib/core.hpp"
#include "abi/lib/task_client.hpp"

struct aios_tenant final : aios::lib::ClientEndpoint {
  aios_tenant(std::shared_ptr<aios::lib::Core> of, aios::Handle port);
  ~aios_tenant() override { close(); }
  /// Ends everything under way, while what its callbacks use is still there.
  void close();

  /// Starts a call by `start(tenant, done)` and waits for its answer.
  template <class T, class Start>
  aios::Result<T> ask(Start start);
  using Records = std::span<const aios::TaskTenant::TaskRecord>;
  /// One batch. Waits for a free place in the arena first: busy is not an answer.
  aios::Result<void> submit(Records records, aios::Deadline deadline);
  /// Any number, batch after batch, several on their way at once. Waits while too many tasks are
  /// pending, and meanwhile takes completions in. `taken` is how many were accepted, the first.
  /// `before_send(first, count)` is called with the place of each batch.
  using BeforeSend = std::function<void(std::size_t, std::size_t)>;
  aios::Result<void> submit_many(Records records, aios::Deadline deadline, std::size_t& taken,
                                 BeforeSend before_send = {}, std::uint32_t graph = 0);
  /// So many of those that were accepted are gone without completions: their graph was refused.
  void withdrawn(std::size_t count) { unfinished_ -= std::min(count, unfinished_); }
  /// So many tags for a graph, the first of them; its completions go to `watcher` until `unwatch`.
  std::uint64_t watch(std::size_t count, std::function<void(const aios_completion&)> watcher);
  void unwatch(std::uint64_t first_tag, bool all_ended);

  /// Completions are at hand, or there will be no more.
  bool has_news() const { return !finished.empty() || broken.has_value(); }
  /// They are at hand of every task that was accepted, and there is one.
  bool has_all() const { return !finished.empty() && unfinished_ == 0; }
  /// Has the scheduler tell what is finished as soon as that are `least`, unless it was asked to
  /// tell so soon or sooner.
  void want_completions(std::size_t least = 1);

  aios::TaskLink link;
  aios::TaskTenant tenant;
  std::deque<aios_completion> finished;
  std::optional<aios::Status> broken;  ///< why there are no more completions
  /// The caller's share.
  std::shared_ptr<aios_tenant> self;

 private:
  struct Watched {
    std::uint64_t end_tag;
    std::function<void(const aios_completion&)> watcher;
  };
  struct Series;
  void arrived(aios::Result<aios::TaskTenant::Completions> completions);
  bool may_send_more(const Series& series) const;
  void send_next(const std::shared_ptr<Series>& series);

  std::uint32_t asked_ = 0;      ///< calls for completions on their way
  std::size_t asked_least_ = 0;  ///< of the last of them
  bool keep_all_ = false;        ///< completions are taken in however many there are
  std::size_t unfinished_ = 0;   ///< tasks accepted, or on their way, of which none arrived
  std::uint32_t batches_ = 0;    ///< on their way
  std::map<std::uint64_t, Watched> watched_;  ///< by first tag
  std::uint64_t next_tag_ = 1ull << 31;
};

template <class T, class Start>
aios::Result<T> aios_tenant::ask(Start start) {
  struct Answer {
    bool done = false;
    aios::Result<T> result = aios::error(aios::Code::internal);
  };
  TRY(core().check_process());
  TRY(aios::lib::prepare_to_sleep());
  const auto answer = std::make_shared<Answer>();
  std::unique_lock lock(mutex);
  start(tenant, aios::TaskCallback<T>([this, answer](aios::Result<T> result) {
          answer->result = std::move(result);
          answer->done = true;
          changed();
        }));
  aios::lib::finish(*this, lock, [&] { return answer->done; });
  return std::move(answer->result);
}
