// Boosted trees that predict what sizes cost that never ran: trained elsewhere (trainer/), checked
// and asked here. The sum of a line over the logarithms of bytes and blocks, and of small trees,
// each a way down by comparisons to a number. MODELS.md has the mathematics.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "abi/runtime/status.hpp"
#include "services/scheduler/costs/costs.hpp"

namespace aios::scheduler {

/// What trees compare: logarithms of all bytes, blocks, bytes read, bytes written and bytes of the
/// largest buffer, and the number of buffers.
inline constexpr std::size_t tree_features = 6;
using TreeFeatures = std::array<float, tree_features>;
TreeFeatures tree_features_of(const Features& features);

inline constexpr std::size_t max_trees = 48;
inline constexpr std::uint32_t max_tree_depth = 5;
inline constexpr std::size_t max_tree_nodes = 1536;  ///< of all trees of a model

struct TreeNode {
  static constexpr std::uint16_t leaf = 0xFFFF;
  float value;            ///< of a leaf, what it adds; else what the feature is compared with
  std::uint16_t feature;  ///< or `leaf`
  std::uint16_t below;    ///< the node for less than `value`; behind it that for the rest
};
static_assert(sizeof(TreeNode) == 8);

class BoostedTrees {
 public:
  struct Parts {
    std::array<float, 3> line{};  ///< constant, and slopes over the logarithms of bytes and blocks
    float lowest = 0, highest = 0;     ///< of what it learned from
    std::vector<std::uint16_t> roots;  ///< of each tree
    std::vector<TreeNode> nodes;       ///< below a node come only later ones
  };
  /// corrupt: parts of which no prediction could be made in bounded time, or no number come out.
  static Result<BoostedTrees> create(Parts parts);

  /// The logarithm of what it will take; at most e^3 beyond what it learned from.
  float predict(const TreeFeatures& features) const;
  const Parts& parts() const { return parts_; }

 private:
  explicit BoostedTrees(Parts parts) : parts_(std::move(parts)) {}
  Parts parts_;
};

/// What trees are added to: also the margin from which they are trained.
float line_at(const std::array<float, 3>& line, const TreeFeatures& features);

}  // namespace aios::scheduler
