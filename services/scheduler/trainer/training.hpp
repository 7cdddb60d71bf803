// Whether trees are worth having for a key, and which: the earlier runs train them, the later ones
// judge them, beside what was predicted for these very runs without trees. Pure: no clock, no
// library, no process.
#pragma once

#include "services/scheduler/costs/trees_record.hpp"
#include "services/scheduler/trainer/booster.hpp"

namespace aios::scheduler::trainer {

/// Of the runs so many at least, and a quarter, are held out: the latest.
inline constexpr std::size_t least_held_out = 16;
inline constexpr std::size_t least_trained = 48;

/// One of the runs that were held out: logarithms.
struct Judged {
  float trees, told, actual;
};
/// How both did, and whether trees are promoted: their median error is lower, and what they gain in
/// the mean is more than chance would give in one of twenty.
TreesReport judge(std::span<const Judged> runs);

/// Least squares of y on (1, ln bytes, ln blocks), drawn a little towards no slope.
std::array<float, 3> fit_line(std::span<const FirstRun> runs);

/// `stop` is asked often; when it says so, the verdict is out_of_time. What the library fails at is
/// logged.
TrainedKey train(const KeyRuns& runs, Booster& booster, const std::function<bool()>& stop);

}  // namespace aios::scheduler::trainer
