// The machine that is simulated: devices, their memories, and how long tasks take there.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "services/scheduler/memories.hpp"
#include "services/scheduler/simulator/graph.hpp"

namespace aios::scheduler::sim {

struct SimDevice {
  std::string name;
  std::string kind;
  std::uint32_t slots = 1;
  MemoryId memory = host_memory;
  double speed = 1;  ///< of a core
};

/// Measured times, from StarPU's performance models: seconds by type and kind ("cpu", "gpu").
using MeasuredTimes = std::map<std::string, std::map<std::string, double>>;

struct Platform {
  std::vector<SimDevice> devices;
  std::uint32_t memories = 1;
  TransferCost bus{10'000, 1.0 / 12};  ///< between two memories: 12 GB/s
  MeasuredTimes measured;

  std::uint32_t slots() const;
  /// Without noise. Speed counts as far as the type gets it: 1 + (speed - 1) * acceleration.
  Result<double> time_s(const Graph& graph, const SimTask& task, const SimDevice& device) const;
};

/// KIND:COUNT[@SPEED],... : COUNT cores of one device `cpu` in the host's memory, COUNT devices of
/// every other kind with a memory each. `models:FOLDER/MACHINE` among them takes times of tasks,
/// and those of the bus, from StarPU's performance models. invalid_argument, not_found.
Result<Platform> parse_devices(const std::string& spec);

/// The times of `FOLDER/codelets/45/MODEL.MACHINE` and bus files of FOLDER/bus, for 960 x 960
/// tiles.
Result<void> read_starpu_models(const std::string& folder_and_machine, Platform& platform);

}  // namespace aios::scheduler::sim
