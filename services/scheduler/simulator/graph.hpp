// A task graph to simulate: what tasks there are, which data they use, and how long each takes on a
// processor's core (MODELS.md says how other devices differ).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "abi/include/aios/codelet.h"
#include "abi/runtime/status.hpp"

namespace aios::scheduler::sim {

inline constexpr std::size_t max_tasks_simulated = 65'000;  ///< a tenant may have 65,536 pending
inline constexpr std::size_t max_data_simulated = 1536;     ///< buffers of a user
inline constexpr std::size_t max_types_simulated = 256;     ///< codelets of a tenant

struct Access {
  std::uint32_t data;
  std::uint32_t mode;  ///< AIOS_MODE_READ and so on
  bool reads() const { return mode == AIOS_MODE_READ || mode == AIOS_MODE_READ_WRITE; }
  bool writes() const { return mode == AIOS_MODE_WRITE || mode == AIOS_MODE_READ_WRITE; }
};

struct TaskType {
  std::string name;
  /// How much of a device's speed it gets there: 0 none, 1 all of it.
  double acceleration = 1;
};

inline constexpr std::uint32_t not_recorded = ~0u;

struct SimTask {
  std::string name;
  std::uint32_t type = 0;
  double work_s = 0;
  std::uint64_t memory_bytes = 0;
  std::vector<std::uint32_t> parents;  ///< all earlier in the list, each once
  std::vector<Access> accesses;        ///< at most 16
  // Of a run that AIOS recorded:
  std::uint32_t device = not_recorded;  ///< its place in `recorded_devices`
  bool pinned = false;                  ///< it had to run there
  std::uint32_t threads = 1;            ///< of the device, that it kept busy
  double transfer_s = 0;                ///< copying its data there and back
  double ahead_s = 0;                   ///< of that, while tasks before it ran
  bool elsewhere = false;               ///< its time is of a device that is not among them
};

/// Where a run that AIOS recorded took place.
struct RecordedDevice {
  std::string name;
  std::string kind;
  std::uint32_t backend = 0;  ///< a bit of proto::driver::backend
  std::uint32_t threads = 1;
  std::uint32_t queue_depth = 0;  ///< tasks that lie in its own queue besides
  double opening_s = 0;           ///< of the job's context
  double latency_s = 0;           ///< from when a task could begin to when it did, on average
};

struct Graph {
  std::string name;
  std::vector<TaskType> types;
  std::vector<std::uint64_t> data_bytes;
  std::vector<SimTask> tasks;
  // Where AIOS recorded it (aiosctl graph run --record):
  double recorded_makespan_s = 0;
  double preparation_s = 0;  ///< until its first task came to the scheduler
  std::vector<RecordedDevice> recorded_devices;
  /// Loading the module of a type's codelet, by type and device.
  std::map<std::pair<std::uint32_t, std::uint32_t>, double> loading_s;
};

/// `other` with the devices of `here` that have the same name and backend, and its types where they
/// have the same name. A task that ran on a device that is not there is `elsewhere`.
Graph recorded_as(const Graph& here, Graph other);

/// Recorded: WfFormat 1.5 (wfcommons.org). not_found, invalid_argument: with the file, the place in
/// it, what is wrong and what would be right.
Result<Graph> read_wfformat(const std::string& path);
/// Of JSON text; `path` is for messages.
Result<Graph> parse_wfformat(const std::string& text, const std::string& path);

/// KIND:SIZE, or random:SIZE:SEED; invalid_argument says what there is.
Result<Graph> generate(const std::string& spec);

/// Brings the tasks into an order in which parents come first; `parents` holds indices of any
/// order. invalid_argument: a cycle, with the tasks on it.
Result<void> sort_topologically(Graph& graph);

/// What every graph must keep to: quota.
Result<void> check_size(const Graph& graph);

}  // namespace aios::scheduler::sim
