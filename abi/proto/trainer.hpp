// aios-trainer: makes trees that predict costs, from runs that the scheduler has seen
// (services/scheduler/trainer). Runs and trees travel in regions, in the formats of
// services/scheduler/costs/trees_record.hpp, which only these two programs know.
#pragma once

#include "abi/proto/kernel.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::trainer {

inline constexpr std::uint64_t max_runs_bytes = 4ull << 20;
inline constexpr std::uint64_t max_trees_bytes = 4ull << 20;
/// How long a training may take. What is not done by then is reported as such.
inline constexpr std::uint64_t max_training_ns = 300'000'000'000;

/// Trains from the first `runs_bytes` of `runs` (map_read) and writes what came of it to `trees`
/// (map_write), regions that came over this link. One at a time: busy. not_supported: the library
/// that trains is not installed, with how to get it. too_large: `trees` has no room for the
/// outcome. corrupt, version_mismatch: the runs make no sense. invalid_argument: a size is none.
/// cancelled: the client went away meanwhile.
struct Train {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "train";
  struct Request {
    kernel::Handle runs;
    kernel::Handle trees;
    std::uint64_t runs_bytes;
    AIOS_FIELDS(Request, runs, trees, runs_bytes)
  };
  struct Reply {
    std::uint64_t trees_bytes;
    std::uint64_t cpu_ns;  ///< that it took
    AIOS_FIELDS(Reply, trees_bytes, cpu_ns)
  };
};

/// What trains: "XGBoost 1.7.4". not_supported as for Train.
struct Library {
  static constexpr std::uint16_t opcode = 2;
  static constexpr const char* name = "library";
  static constexpr bool idempotent = true;
  using Request = Empty;
  struct Reply {
    Text<64> text;
    AIOS_FIELDS(Reply, text)
  };
};

struct Protocol {
  static constexpr const char* name = "trainer";
  static constexpr std::uint16_t version = 1;
  using Methods = MethodList<Null, Train, Library>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

}  // namespace aios::proto::trainer
