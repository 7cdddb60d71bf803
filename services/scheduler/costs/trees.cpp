#include "services/scheduler/costs/trees.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace aios::scheduler {
namespace {

/// As a regression may (cost_models.cpp): few samples make steep slopes.
constexpr float most_beyond = 3;
/// Logarithms of times and sizes, and all that is made of them, are far below.
constexpr float most_value = 1e6F;

bool sane(float value) {
  return std::isfinite(value) && std::abs(value) <= most_value;
}

float log_of(double value) {
  return static_cast<float>(std::log(std::max(value, 1.0)));
}

std::unexpected<Status> nonsense(const char* what) {
  return error(Code::corrupt, std::string("the trees make no sense: ") + what);
}

Result<void> check_numbers(const BoostedTrees::Parts& parts) {
  for (const float value : parts.line)
    if (!sane(value)) return nonsense("their line");
  if (!sane(parts.lowest) || !sane(parts.highest) || parts.lowest > parts.highest)
    return nonsense("their bounds");
  if (parts.roots.empty() || parts.roots.size() > max_trees)
    return nonsense("there are none, or too many");
  if (parts.nodes.empty() || parts.nodes.size() > max_tree_nodes)
    return nonsense("too few or too many nodes");
  return {};
}

/// Every way down ends, within the depth that is allowed: whoever is below has a greater index.
Result<void> check_ways(const BoostedTrees::Parts& parts) {
  std::vector<std::uint32_t> depth(parts.nodes.size());
  for (const std::uint16_t root : parts.roots) {
    if (root >= parts.nodes.size()) return nonsense("a tree begins nowhere");
  }
  for (std::size_t i = 0; i < parts.nodes.size(); ++i) {
    const TreeNode& node = parts.nodes[i];
    if (!sane(node.value)) return nonsense("a node's number");
    if (node.feature == TreeNode::leaf) {
      if (node.below != 0) return nonsense("something is below a leaf");
      continue;
    }
    if (node.feature >= tree_features) return nonsense("a node compares what there is not");
    if (node.below <= i || node.below + std::size_t{1} >= parts.nodes.size())
      return nonsense("what is below a node lies before it, or nowhere");
    if (depth[i] == max_tree_depth) return nonsense("a tree is too deep");
    for (const std::size_t below : {std::size_t{node.below}, node.below + std::size_t{1}})
      depth[below] = std::max(depth[below], depth[i] + 1);
  }
  return {};
}

}  // namespace

TreeFeatures tree_features_of(const Features& f) {
  return {log_of(f.bytes),         log_of(f.blocks),        log_of(f.read_bytes),
          log_of(f.written_bytes), log_of(f.largest_bytes), static_cast<float>(f.buffers)};
}

float line_at(const std::array<float, 3>& line, const TreeFeatures& features) {
  return line[0] + line[1] * features[0] + line[2] * features[1];
}

Result<BoostedTrees> BoostedTrees::create(Parts parts) {
  TRY(check_numbers(parts));
  TRY(check_ways(parts));
  return BoostedTrees(std::move(parts));
}

float BoostedTrees::predict(const TreeFeatures& features) const {
  float sum = line_at(parts_.line, features);
  const TreeNode* nodes = parts_.nodes.data();
  for (const std::uint16_t root : parts_.roots) {
    const TreeNode* at = nodes + root;
    while (at->feature != TreeNode::leaf)
      at = nodes + at->below + (features[at->feature] < at->value ? 0 : 1);
    sum += at->value;
  }
  return std::clamp(sum, parts_.lowest - most_beyond, parts_.highest + most_beyond);
}

}  // namespace aios::scheduler
