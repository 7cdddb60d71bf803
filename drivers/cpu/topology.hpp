// What the machine's processors are, as the device list shows them.
#pragma once

#include <cstdint>
#include <string>

#include "abi/runtime/status.hpp"

namespace aios::cpu {

struct Topology {
  std::string model;  ///< as the machine names it, or "unknown processor"
  std::string uuid;   ///< the same after a reboot; another one for other hardware
  std::uint32_t cores;
  std::uint32_t threads;  ///< hardware threads this process may use
  std::uint32_t numa_nodes;
  std::uint64_t memory_bytes;
  std::uint64_t cache_bytes;  ///< one cache of the last level; 0: unknown
};

/// Asks hwloc, without I/O devices; a few milliseconds. `machine_id` (that of /etc/machine-id, or
/// empty) goes into the uuid. Honours HWLOC_SYNTHETIC and HWLOC_XMLFILE. io_error: hwloc fails.
Result<Topology> discover_topology(const std::string& machine_id);

/// The host's /etc/machine-id; empty where there is none.
std::string read_machine_id();

}  // namespace aios::cpu
