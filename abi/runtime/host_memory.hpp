// Where in the machine memory lies, and in pages of which size: what Linux offers beyond giving
// pages. Shared memory has one place whoever maps it, so the one who has it filled decides.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "abi/runtime/status.hpp"

namespace aios {

/// NUMA nodes: a bit for each, node 0 the lowest. Those beyond the 64th are never asked for.
using NumaNodes = std::uint64_t;
inline constexpr NumaNodes all_numa_nodes = ~NumaNodes{0};
inline constexpr unsigned max_numa_nodes = 64;

/// Those that this process may take memory from. 0: the host does not say, since it knows no nodes
/// or forbids to ask (containers do, and the sandbox).
NumaNodes numa_nodes();
/// That of the processor on which the calling thread is.
NumaNodes numa_node_here();

/// As long as it lives, pages that the calling thread has Linux fill come from some nodes.
class NumaPreference {
 public:
  /// From one node: while it has memory left, then from others. From several: from each in turn.
  /// Nodes that are not there count for nothing; invalid_argument: none of them is there. For 0,
  /// and where the host does not say which there are, it changes nothing.
  static Result<NumaPreference> take(NumaNodes nodes);
  NumaPreference(NumaPreference&& other) noexcept
      : taken_(std::exchange(other.taken_, false)), before_(other.before_) {}
  /// What the thread had before, by numactl for example, is so again.
  ~NumaPreference();
  /// Whether it changes anything.
  bool taken() const { return taken_; }

 private:
  /// Linux wants room for as many nodes as it was built for.
  struct Policy {
    static constexpr std::size_t most_nodes = 4096;
    int mode = 0;
    std::array<std::uint64_t, most_nodes / 64> nodes{};
  };
  NumaPreference() = default;
  bool taken_ = false;
  Policy before_;
};

/// What one entry of a page table maps at most, of the sizes that programs get without asking the
/// operator for a pool of such pages.
inline constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

/// Has Linux put all of a shared mapping into huge pages, for everybody who maps it: as many whole
/// ones as lie in it. What is there is copied; for memory that nobody uses yet. Where the pages
/// lie, among nodes, stays as it was. not_supported: this host gives none to shared memory (before
/// Linux 6.1, or the operator forbids them); no_memory: there are not so many left. Then some of it
/// may be in huge pages; it is usable either way.
Result<void> use_huge_pages(std::span<std::byte> mapping);

}  // namespace aios
