// The cases of `bench ipc`: calls, regions and many clients over links, beside the bare primitives.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "abi/runtime/status.hpp"
#include "tools/bench/samples.hpp"

namespace aios::bench {

/// What one round of a case gives: times, or one number that is not a time.
struct Outcome {
  Quantiles times;
  double value = 0;  ///< messages a second, or fairness
};

enum class Measures { time, number };

struct Case {
  std::string name;
  Measures measures = Measures::time;
  std::function<Result<Outcome>()> round;
};

/// How a figure stands to its yardstick, and what it is meant to reach; 0: nothing is promised.
struct Ratio {
  std::string figure;
  std::string yardstick;
  double at_most = 0;
};

struct IpcOptions {
  std::string socket;  ///< of an instance with the servers echo, echo2, sleepy and sleepy2
  std::string peers;   ///< folder with the programs of other systems, if they were built
  std::uint64_t large_bytes = 1ull << 30;
};

/// The servers sleepy and sleepy2 are echo servers that never look before they sleep.
Result<std::vector<Case>> ipc_cases(const IpcOptions& options);
std::vector<Ratio> ipc_ratios();

}  // namespace aios::bench
