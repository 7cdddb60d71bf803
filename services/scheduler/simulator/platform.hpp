// The machine that is simulated: devices, their memories, and how long tasks take there.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "abi/proto/device.hpp"
#include "services/scheduler/core/parts/memories.hpp"
#include "services/scheduler/simulator/graph.hpp"

namespace aios::scheduler::sim {

struct SimDevice {
  std::string name;
  std::string kind;
  std::uint32_t slots = 1;
  MemoryId memory = host_memory;
  double speed = 1;  ///< of a core
  std::uint32_t backend = proto::driver::backend::cpu;
  double opening_s = 0;           ///< a context
  double latency_s = 0;           ///< from when a task could begin to when it does
  std::uint32_t queue_depth = 0;  ///< tasks that it is given beside those in its slots
};

/// Measured times, from StarPU's performance models: seconds by type and kind ("cpu", "gpu").
using MeasuredTimes = std::map<std::string, std::map<std::string, double>>;

/// Mean time of a type's tasks in a recorded run, by type and device.
using RecordedMeans = std::map<std::pair<std::uint32_t, DeviceId>, double>;

struct Platform {
  std::vector<SimDevice> devices;
  std::uint32_t memories = 1;
  TransferCost bus{10'000, 1.0 / 12};  ///< between two memories: 12 GB/s
  MeasuredTimes measured;
  /// The devices are those of a recorded run: tasks run where they, or others of their type, did.
  bool is_recorded = false;
  RecordedMeans recorded_means_s = {};

  std::uint32_t slots() const;
  /// Without noise; < 0: it cannot run there. Speed counts as far as the type gets it:
  /// 1 + (speed - 1) * acceleration.
  Result<double> time_s(const Graph& graph, const SimTask& task, DeviceId device) const;
  /// What a type's codelet has code for.
  std::uint32_t backends_of(std::uint32_t type) const;

 private:
  double recorded_time_s(const SimTask& task, DeviceId device) const;
};

/// KIND:COUNT[@SPEED],... : COUNT cores of one device `cpu` in the host's memory, COUNT devices of
/// every other kind with a memory each. `models:FOLDER/MACHINE` among them takes times of tasks,
/// and those of the bus, from StarPU's performance models. invalid_argument, not_found.
Result<Platform> parse_devices(const std::string& spec);

/// Those of the record, with what opening contexts there took. The graph has some.
Platform recorded_platform(const Graph& graph);
RecordedMeans recorded_means_s(const Graph& graph);

/// The times of `FOLDER/codelets/45/MODEL.MACHINE` and bus files of FOLDER/bus, for 960 x 960
/// tiles.
Result<void> read_starpu_models(const std::string& folder_and_machine, Platform& platform);

}  // namespace aios::scheduler::sim
