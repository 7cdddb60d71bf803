// A graph as the records that a client of the core would submit.
#pragma once

#include <algorithm>
#include <vector>

#include "services/scheduler/core/core.hpp"
#include "services/scheduler/simulator/run.hpp"

namespace aios::scheduler::sim {

inline constexpr std::uint64_t begin_ns = 1'000'000'000;  ///< when virtual time begins, by the core

/// Where virtual time ends: about 285 years.
inline constexpr std::uint64_t end_of_time_ns = 9'000'000'000'000'000'000;

/// Times that make no sense end there.
inline std::uint64_t whole_ns(double ns) {
  return static_cast<std::uint64_t>(std::clamp(ns, 0.0, static_cast<double>(end_of_time_ns)));
}
inline std::uint64_t later(std::uint64_t at_ns, double by_ns) {
  return whole_ns(static_cast<double>(at_ns) + by_ns);
}

/// A tenant with everything that the graph's tasks name.
struct Tenancy {
  TenantId tenant = 0;
  std::vector<std::uint32_t> buffers;  ///< by data
};
Result<Tenancy> open_tenancy(Core& core, const Realisation& run);
void add_platform(Core& core, const Realisation& run);

/// Records in an order that can be submitted. The tag of a task is its index; a task that depends
/// on more than twelve others gets joins, whose tags follow those of the tasks.
std::vector<proto::scheduler::TaskRecord> records_of(const Realisation& run, const Tenancy& tenancy,
                                                     const RunOptions& options);

/// In batches, all at the beginning.
Result<void> submit_all(Core& core, TenantId tenant,
                        const std::vector<proto::scheduler::TaskRecord>& records);

}  // namespace aios::scheduler::sim
