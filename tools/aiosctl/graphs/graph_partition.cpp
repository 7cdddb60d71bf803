#include "tools/aiosctl/graphs/graph_partition.hpp"

#include <algorithm>
#include <numeric>

#include "abi/include/aios/codelet.h"

namespace aios::ctl {

namespace {

/// Union-find; the smallest number of a set stands for it.
class Sets {
 public:
  explicit Sets(std::size_t size) : above_(size) { std::iota(above_.begin(), above_.end(), 0u); }

  std::uint32_t find(std::uint32_t one) {
    while (above_[one] != one) one = above_[one] = above_[above_[one]];
    return one;
  }
  void join(std::uint32_t one, std::uint32_t other) {
    one = find(one);
    other = find(other);
    above_[std::max(one, other)] = std::min(one, other);
  }

 private:
  std::vector<std::uint32_t> above_;
};

template <class Visit>
void for_each_use(const GraphFile& graph, Visit&& visit) {
  for (std::uint32_t task = 0; task < graph.tasks.size(); ++task) {
    const proto::scheduler::TaskRecord& record = graph.tasks[task].record;
    for (std::uint32_t i = 0; i < record.buffer_count; ++i)
      visit(task, GraphFile::buffer_of(record.buffers[i]), GraphFile::mode_of(record.buffers[i]));
  }
}

}  // namespace

std::vector<std::vector<std::uint32_t>> partitions_of(const GraphFile& graph) {
  std::vector<std::uint32_t> modes(graph.buffers.size());  // a bit for each mode in use
  for_each_use(graph, [&](std::uint32_t, std::uint32_t buffer, std::uint32_t mode) {
    modes[buffer] |= 1u << mode;
  });
  constexpr std::uint32_t none = ~0u;
  std::vector<std::uint32_t> first_user(graph.buffers.size(), none);
  Sets sets(graph.tasks.size());
  for_each_use(graph, [&](std::uint32_t task, std::uint32_t buffer, std::uint32_t) {
    if (modes[buffer] == 1u << AIOS_MODE_READ || modes[buffer] == 1u << AIOS_MODE_SCRATCH) return;
    if (first_user[buffer] == none) first_user[buffer] = task;
    sets.join(first_user[buffer], task);
  });
  for (std::uint32_t task = 0; task < graph.tasks.size(); ++task)
    for (const std::uint32_t before : graph.tasks[task].after) sets.join(before, task);
  for (const std::vector<std::uint32_t>& gang : graph.gangs)
    for (const std::uint32_t member : gang) sets.join(gang.front(), member);
  std::vector<std::vector<std::uint32_t>> partitions;
  std::vector<std::uint32_t> number_of(graph.tasks.size());
  for (std::uint32_t task = 0; task < graph.tasks.size(); ++task) {
    const std::uint32_t first = sets.find(task);
    if (first == task) {
      number_of[task] = static_cast<std::uint32_t>(partitions.size());
      partitions.emplace_back();
    }
    partitions[number_of[first]].push_back(task);
  }
  return partitions;
}

}  // namespace aios::ctl
