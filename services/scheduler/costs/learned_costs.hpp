// Costs that are learned from completions (MODELS.md): for each codelet, size and device the
// history of that size, a regression over all sizes, and what is known beforehand; the one that
// erred least of late speaks, with a quantile that is kept honest by what was seen. For sizes that
// never ran boosted trees speak, where some were trained and erred less of late. Time and memory
// alike.
#pragma once

#include <tsl/robin_map.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "services/scheduler/costs/cost_models.hpp"
#include "services/scheduler/costs/costs.hpp"
#include "services/scheduler/costs/history_record.hpp"
#include "services/scheduler/costs/trees_record.hpp"

namespace aios::scheduler {

/// First runs without which no trees are trained.
inline constexpr std::uint32_t least_first_runs = 64;

class LearnedCosts final : public Costs {
 public:
  void set_device(DeviceId device, const DeviceFacts& facts) override;
  CodeletId open_codelet(const CodeletKey& key, const Hints& hints) override;
  void close_codelet(CodeletId codelet) override;
  WorkId work(CodeletId codelet, const Features& features) override;
  const Estimate& estimate(WorkId work, DeviceId device) override;
  void placed(WorkId work, DeviceId device) override;
  void learn(const Observation& what) override;

  /// What is known of one size of one codelet on one device.
  struct Row {
    const CodeletKey* codelet;
    const DeviceFacts* device;
    Features features;
    Estimate estimate;
    double log_error;      ///< of the level that speaks; 0 before there was one
    std::uint32_t drifts;  ///< how often it started anew
  };
  /// All that were ever measured; those of codelets that are not open included.
  void for_each(const std::function<void(const Row&)>& visit);

  /// Completions learned from, in all.
  std::uint64_t observations() const { return observations_; }
  /// What is worth keeping over restarts: of codelets whose modules have a hash, those used last
  /// first, as much as fits (history_record.hpp).
  SavedCosts save(std::size_t most_bytes) const;
  /// Takes it over where nothing was measured since, of the devices that are known. May be called
  /// again when there are more of those.
  void restore(const SavedCosts& saved);
  /// By which what was learned of a device is kept.
  std::string identity_of(DeviceId device) const;

  // ---- trees (learned_trees.cpp) ----

  /// Whether some key has first runs enough, or more by a quarter than when it was trained.
  bool training_due() const { return training_due_; }
  /// Those keys, at most so many; they are due again when they have grown once more.
  std::vector<KeyRuns> take_training(std::size_t most_keys);
  /// What came of a training takes the place of what the key had. `is_new`: it begins with the
  /// errors of its report, not with those that were kept. False: its codelet or device is not
  /// known.
  bool adopt(const TrainedKey& trained, bool is_new);
  struct TreesState {
    bool speak = false;      ///< of sizes that never ran
    std::uint32_t runs = 0;  ///< that they were judged by since
    double trees_error = 0;  ///< running means of the errors of the logarithm
    double told_error = 0;
  };
  TreesState trees_state(const TreesKey& key);

 private:
  /// Of one quantity, for one size on one device.
  struct Series {
    History history;
    RunningError history_error, regression_error;
    QuantileTracker quantile;
    bool has_own_quantile = false;
    SavedFirst first;
    mutable std::uint32_t asked = 0;  ///< the number of the trees that said `trees_mean`
    mutable float trees_mean = 0;
  };
  /// Of one quantity, for all sizes on one device.
  struct Trend {
    Regression regression;
    RunningError history_error, regression_error, prior_error;
    QuantileTracker quantile;
    std::shared_ptr<const BoostedTrees> trees;
    std::uint32_t trees_number = 0;
    RunningError trees_error, told_error;  ///< of first runs, since there are trees
    std::uint32_t first_runs = 0;
    std::uint32_t train_at = least_first_runs;
  };
  struct Cell {
    Series time, memory;
    Estimate estimate;
    std::uint32_t version = 0;  ///< of its trend, when the estimate was made; 0: never
  };
  struct PerDevice {
    Trend time, memory;
    std::uint32_t passed_over = 0;
    double passed_over_ns = 0;
    std::uint32_t fruitless = 0;
    std::uint32_t version = 1;
  };
  struct Codelet {
    CodeletKey key;
    Hints hints;
    std::uint32_t users = 0;  ///< openings not closed
    std::uint64_t last_use = 0;
    std::vector<PerDevice> devices;
    tsl::robin_map<std::uint64_t, WorkId> works;  ///< by footprint
    Regression::Vector center{};                  ///< of the first size seen
  };
  struct Work {
    CodeletId codelet = 0;
    Features features;
    Regression::Vector x{};
    std::vector<Cell> cells;  ///< by device
  };
  struct Guess {
    Level level;
    double mean;  ///< of the logarithm
    double sd;
    double variance;  ///< without the doubt about the mean
    double error;
  };

  static SavedTrend saved(const Trend& trend, std::uint32_t device, bool memory);
  static SavedSeries saved(const Series& series, std::uint32_t device, bool memory);
  SavedCodelet saved(const Codelet& codelet) const;
  void restore(const SavedCodelet& saved, const std::vector<DeviceId>& devices);
  bool take_over_center(Codelet& codelet, const SavedCodelet& saved);
  void restore_size(CodeletId codelet, const SavedSize& size, const std::vector<DeviceId>& devices);

  void forget_least_used();
  WorkId add_work(CodeletId codelet, std::uint64_t footprint, const Features& features);
  double prior_time_ns(const Codelet& codelet, const Features& features, DeviceId device) const;
  double prior_log(const Codelet& codelet, const Work& work, DeviceId device, bool time) const;
  Guess guess(const Codelet& codelet, const Work& work, DeviceId device, bool time) const;
  Guess guess_without_trees(const Codelet& codelet, const Work& work, DeviceId device,
                            bool time) const;
  std::optional<Guess> carried_over(const Codelet& codelet, const Work& work, DeviceId device,
                                    bool time) const;
  Guess elsewhere(const Work& work, DeviceId device, bool time, double prior) const;
  static Quantity quantity(const Guess& guess, double z);
  void refresh(const Codelet& codelet, Work& work, DeviceId device);
  void learn_one(Codelet& codelet, Work& work, DeviceId device, bool time, double y);

  static bool trees_speak(const Trend& trend);
  static float ask_trees(const Trend& trend, const Series& series, const Work& work);
  void saw_first(const Codelet& codelet, const Work& work, DeviceId device, bool time, double y,
                 Trend& trend, Series& series);
  KeyRuns runs_of(const Codelet& codelet, DeviceId device, bool memory) const;
  Trend* find_trend(const TreesKey& key, PerDevice** here = nullptr);

  std::vector<DeviceFacts> devices_;
  std::vector<std::string> kinds_;  ///< by device: its name without the number
  std::deque<Codelet> codelets_;
  std::vector<CodeletId> free_codelets_;
  std::deque<Work> works_;
  std::vector<WorkId> free_works_;
  std::uint64_t uses_ = 0;
  std::uint64_t observations_ = 0;
  std::uint64_t first_runs_ = 0;
  std::uint32_t trees_made_ = 0;
  bool training_due_ = false;
};

}  // namespace aios::scheduler
