// The object behind aios_tenant.
#pragma once

#include <atomic>
#include <deque>
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
  /// Waits for a free place in the arena first. busy is not an answer.
  aios::Result<void> submit(std::span<const aios::TaskTenant::TaskRecord> records,
                            aios::Deadline deadline);

  /// Completions are at hand, or there will be no more.
  bool has_news() const { return !finished.empty() || broken.has_value(); }
  /// Has the scheduler tell what is finished, unless it has been asked.
  void want_completions();

  aios::TaskLink link;
  aios::TaskTenant tenant;
  std::deque<aios_completion> finished;
  std::optional<aios::Status> broken;  ///< why there are no more completions
  /// The caller's share.
  std::shared_ptr<aios_tenant> self;

 private:
  void arrived(aios::Result<aios::TaskTenant::Completions> completions);
  bool asked_ = false;
  std::uint32_t batches_ = 0;  ///< on their way
};
