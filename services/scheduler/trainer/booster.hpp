// What fits boosted trees to numbers. An interface, so that whatever is decided around it can be
// tested without a library that does.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "abi/runtime/status.hpp"
#include "services/scheduler/costs/trees.hpp"

namespace aios::scheduler::trainer {

class Booster {
 public:
  virtual ~Booster() = default;
  /// Its name and version.
  virtual std::string name() const = 0;

  struct Forest {
    std::vector<std::uint16_t> roots;
    std::vector<TreeNode> nodes;
  };
  /// Trees whose sums, added to `margins`, come close to `labels`; all three have one entry a row.
  /// Within the limits of trees.hpp. cancelled: `stop` said so, in the middle.
  virtual Result<Forest> fit(std::span<const TreeFeatures> rows, std::span<const float> margins,
                             std::span<const float> labels, const std::function<bool()>& stop) = 0;
};

}  // namespace aios::scheduler::trainer
