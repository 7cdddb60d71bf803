// What a task will cost: run time and peak memory, for each device that could run it. Where the
// numbers come from is the implementation's; MODELS.md has the mathematics of the learned ones.
//
// Names are resolved once and then are small integers: a codelet when it is registered, a piece of
// work (codelet and size) when its task is submitted. An estimate is then one look into a table,
// for it is asked for several times a decision; learning, once a task, may cost more.
#pragma once

#include <cstdint>
#include <string>

namespace aios::scheduler {

using DeviceId = std::uint32_t;
inline constexpr DeviceId no_device = ~DeviceId{0};
using CodeletId = std::uint32_t;
using WorkId = std::uint32_t;

/// Whose word an estimate is, the least founded first.
enum class Level : std::uint8_t {
  none,        ///< nothing is known: a constant
  hint,        ///< what the application said, or the device's roofline over bytes and flops
  regression,  ///< over all sizes of this codelet here
  history,     ///< of this size here
  boosted,     ///< trees trained over all sizes of this codelet here (trees.hpp)
  exact,       ///< told by an oracle: in simulations only
};
const char* level_name(Level level);

struct Quantity {
  double mean = 0;
  double p95 = 0;
};

struct Estimate {
  Quantity time;                  ///< ns
  Quantity memory;                ///< peak bytes
  std::uint32_t samples = 0;      ///< completions of this codelet and size here
  std::uint32_t passed_over = 0;  ///< decisions against this device since it last ran it
  double passed_over_ns = 0;      ///< what those tasks were to take where they went
  std::uint32_t fruitless = 0;    ///< decisions for it since a run there last taught something
  Level level = Level::none;
};

/// Models never mix codelets of different modules, nor of different users: what a user's contexts
/// report must not mislead others.
struct CodeletKey {
  std::uint64_t module_hash = 0;
  std::uint32_t user = 0;
  std::string function;
  bool operator==(const CodeletKey&) const = default;
};

/// What the application says about the work of one task; 0: nothing.
struct Hints {
  double flops_per_block = 0;
  double time_ns = 0;  ///< of a task, on a processor's core
};

/// What the cost of a task may depend on.
struct Features {
  std::uint64_t footprint = 0;  ///< equal for tasks of equal sizes, grid and arguments' shape
  double bytes = 0;             ///< of all its buffers
  double blocks = 1;            ///< of its grid
  double read_bytes = 0;        ///< of the buffers that it reads
  double written_bytes = 0;     ///< of those that it writes
  double largest_bytes = 0;     ///< of the largest one
  double buffers = 0;
  std::uint64_t tag = 0;  ///< the task's; nothing is learned from it
};

struct DeviceFacts {
  std::string name;           ///< stays the same over restarts: models are kept by it
  std::uint32_t backend = 0;  ///< the variant that runs there
  double flops_per_s = 0;     ///< of one slot, measured at start; 0: not known
  double bytes_per_s = 0;
  double launch_ns = 0;
  std::string identity;  ///< of the very device, over restarts; empty: its name will do
};

struct Observation {
  WorkId work = 0;
  DeviceId device = 0;
  /// By the device's clock, without transfers; where threads share it out, as if it had as many of
  /// them as it keeps busy for itself.
  double time_ns = 0;
  double memory_bytes = 0;  ///< 0: not measured
};

class Costs {
 public:
  virtual ~Costs() = default;
  /// Devices are numbered in order from 0.
  virtual void set_device(DeviceId device, const DeviceFacts& facts) = 0;
  /// Each opening is closed once. Models of closed codelets are kept while there is room.
  virtual CodeletId open_codelet(const CodeletKey& key, const Hints& hints) = 0;
  virtual void close_codelet(CodeletId codelet) = 0;
  /// The id is valid until its codelet is closed.
  virtual WorkId work(CodeletId codelet, const Features& features) = 0;
  /// Valid until the next call of any other method.
  virtual const Estimate& estimate(WorkId work, DeviceId device) = 0;
  /// The task was placed there, not on the others that it could have run on.
  virtual void placed(WorkId work, DeviceId device) = 0;
  /// A task has run to its end, without error.
  virtual void learn(const Observation& what) = 0;
};

}  // namespace aios::scheduler
