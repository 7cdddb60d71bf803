// The part of the scheduler's protocol that is about boosted trees.
#pragma once

#include "abi/proto/wire.hpp"

namespace aios::proto::scheduler {

enum class TreesVerdict : std::uint32_t {
  promoted = 0,      ///< they predict better on runs that they were not trained from
  no_better = 1,     ///< than what speaks without them
  too_few = 2,       ///< runs
  no_variation = 3,  ///< in sizes, or in what they take: there is nothing to learn
  out_of_time = 4,   ///< the training ended before their turn
  failed = 5,        ///< the library that trains did; the trainer's log says why
};

/// Number `index` of the trees that were trained (aios-trainer): how they did on the latest runs of
/// new sizes, from which they were not trained, beside what was predicted for the same runs without
/// them; and since. Only an operator's client sees other users'. not_found: no more.
struct TreesNext {
  static constexpr std::uint16_t opcode = 22;
  static constexpr const char* name = "trees_next";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t index;
    AIOS_FIELDS(Request, index)
  };
  struct Reply {
    double trees_mdape;  ///< median absolute error, as a share of what the runs took
    double told_mdape;   ///< of what was predicted without trees
    double trees_error;  ///< mean absolute error of the logarithm
    double told_error;
    double live_trees_error;  ///< the same since the promotion, the newest counting most
    double live_told_error;
    std::uint64_t module_hash;
    std::uint32_t live_runs;  ///< of new sizes since
    std::uint32_t trained;    ///< runs
    std::uint32_t held_out;
    std::uint32_t verdict;
    std::uint32_t speaks;  ///< 1: new sizes are predicted by the trees; 0: they err more of late
    std::uint32_t memory;  ///< 1: of peak memory; 0: of time
    std::uint32_t user;
    std::uint32_t reserved;
    Text<64> codelet;
    Text<128> device;  ///< its identity
    AIOS_FIELDS(Reply, trees_mdape, told_mdape, trees_error, told_error, live_trees_error,
                live_told_error, module_hash, live_runs, trained, held_out, verdict, speaks, memory,
                user, reserved, codelet, device)
  };
};

/// Who trains trees, and how far that is.
struct Training {
  static constexpr std::uint16_t opcode = 23;
  static constexpr const char* name = "training";
  static constexpr bool idempotent = true;
  using Request = Empty;
  struct Reply {
    std::uint64_t trainings;  ///< that ended since the scheduler began
    std::uint64_t cpu_ns;     ///< that they took
    std::uint32_t available;  ///< 1: there is somebody who trains
    std::uint32_t running;    ///< 1: a training is under way
    Text<128> text;           ///< "XGBoost 1.7.4", or why there is none and how to get it
    AIOS_FIELDS(Reply, trainings, cpu_ns, available, running, text)
  };
};

}  // namespace aios::proto::scheduler
