// What of a graph may run apart from the rest: its connected components.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/aiosctl/graphs/graph_file.hpp"

namespace aios::ctl {

/// Every task once, by its place in the graph: within a partition, and partitions by their first
/// task, in the graph's order. Tasks are of one partition when an edge or a gang joins them, or a
/// buffer that one of them writes. What all of them only read, or only use as scratch, joins none:
/// each partition has one of its own.
std::vector<std::vector<std::uint32_t>> partitions_of(const GraphFile& graph);

}  // namespace aios::ctl
