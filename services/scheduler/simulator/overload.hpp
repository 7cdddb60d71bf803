// Graphs that keep coming from several tenants of several users, most of them with deadlines, at a
// chosen share of what the devices can do: admitted by the core, and by earliest deadline first
// without admission.
#pragma once

#include <cstdint>

#include "abi/runtime/status.hpp"

namespace aios::scheduler::sim {

struct Stream {
  double load = 1;  ///< offered work by what all slots can do
  std::uint32_t graphs = 400;
  std::uint32_t slots = 8;
  double noise = 0.3;
  std::uint64_t seed = 1;
  std::uint32_t users = 2;
  std::uint32_t tenants = 2;  ///< of each user
  double undated = 0.2;       ///< share of the graphs that have no deadline
  bool admission = true;      ///< policy `learned`; otherwise `edf`, which accepts all
};

/// Of the graphs with deadlines.
struct StreamOutcome {
  std::uint32_t offered = 0, rejected = 0, missed = 0;
  double offered_work_ns = 0;
  double good_work_ns = 0;  ///< of graphs that were done by their deadline
  double goodput() const { return good_work_ns / offered_work_ns; }
};

Result<StreamOutcome> run_stream(const Stream& stream);

}  // namespace aios::scheduler::sim
