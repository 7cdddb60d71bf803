// Has trees trained when there is enough to train them from, by aios-trainer, which has no part in
// any decision; keeps what came of it, over restarts, and hands it to the learned costs. Without a
// trainer, or when it fails, everything else goes on, and the next growth tries again.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "abi/proto/trainer.hpp"
#include "abi/runtime/client.hpp"
#include "services/scheduler/costs/learned_costs.hpp"
#include "services/scheduler/server/history_store.hpp"

namespace aios::scheduler {

class TreesKeeper {
 public:
  TreesKeeper(Kernel& kernel, LearnedCosts& costs, std::unique_ptr<Client> trainer);
  TreesKeeper(const TreesKeeper&) = delete;
  ~TreesKeeper();

  /// Over restarts. Without it what was trained goes with the scheduler.
  void keep_in(EventLoop& loop, std::unique_ptr<Client> storage);
  /// Something was learned: a training begins when one is due and none is under way.
  void learned();
  /// Codelets or devices are known that were not.
  void adopt_all();
  /// As HistoryStore::flush.
  void flush(std::function<void()> done);

  /// Number `index` of those that `user` may see; null: no more.
  const TrainedKey* at(std::uint64_t index, std::uint32_t user, bool all_users) const;
  proto::scheduler::Training::Reply describe() const;

 private:
  void ask_library();
  Result<void> start(const std::vector<KeyRuns>& keys);
  void ended(const Result<proto::trainer::Train::Reply>& reply);
  Result<void> take_over(const proto::trainer::Train::Reply& reply);
  void take(TrainedKey trained, bool is_new);
  void drop_one();
  void fetched(const HistoryStore::Bytes& bytes);

  Kernel& kernel_;
  LearnedCosts& costs_;
  std::vector<TrainedKey> kept_;  ///< the one trained last is the last
  std::unique_ptr<HistoryStore> store_;
  bool is_available_ = false;
  std::string text_ = "the trainer has not answered yet";
  std::uint64_t trainings_ = 0;
  std::uint64_t cpu_ns_ = 0;
  // Of the training that is under way.
  std::vector<TreesKey> asked_;
  Region runs_, trees_;
  std::unique_ptr<Client> trainer_;  // last: its end calls back into the above
};

}  // namespace aios::scheduler
