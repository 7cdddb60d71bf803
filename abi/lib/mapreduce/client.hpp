// Runs a MapReduce job for a program: walks and lends the input, gives memory, writes and commits
// the output. Blocking; one thread. Jobs that compute on devices are led from here, see
// device_job.hpp.
//
//   auto kernel = TRY(Kernel::attach(socket, {.job_name = "mr-" + std::to_string(::getpid())}));
//   auto report = TRY(mapreduce_client::run(*kernel, port, options, {}));
//
// The job runs in contexts of the job that `kernel` attached to: attach to one of its own, so that
// it shares its contexts with nothing else and ends with the program.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "abi/lib/mapreduce/output.hpp"
#include "abi/proto/mapreduce.hpp"
#include "abi/runtime/kernel.hpp"
#include "abi/runtime/status.hpp"

namespace aios::mapreduce_client {

/// A job of a chain: it reads the lines that the one before it wrote.
struct Stage {
  std::string label;
  std::string module_path;
  std::vector<std::string> arguments;
};

struct Options {
  std::string label;  ///< what the job is called in listings and in the manifest
  std::string module_path;
  std::vector<std::string> arguments;
  std::vector<std::string> inputs;  ///< files, folders, and objects of storage: "aios:NAME"
  std::string input_format{};       ///< with `field` as parse_input_format has them
  std::string field{};
  std::string output;
  /// What makes it a chain: the jobs after this one. Only what the last one writes is the output.
  std::vector<Stage> then{};
  std::function<void(const Stage&)> on_stage{};  ///< told of the jobs of a chain as they begin
  std::uint32_t reducers = 1;
  std::uint32_t threads = 1;
  std::uint64_t memory_bytes = 0;  ///< 0: default_memory_bytes()
  std::uint64_t task_limit_ns = 0;
  std::uint64_t max_bad_records = 0;  ///< skipped rather than fail the job
  std::uint64_t open_files = 1024;    ///< how many descriptors this process may have
};

struct Report {
  std::uint64_t input_files = 0;
  std::uint64_t input_bytes = 0;
  std::uint64_t output_bytes = 0;
  std::uint64_t seconds_ns = 0;  ///< from the call to the committed output
  /// Of a chain: records are those of its first job, keys those of its last, the rest is of all.
  proto::mapreduce::Progress progress{};
  std::vector<std::pair<std::string, std::uint64_t>> counters;
  std::vector<SkippedRecord> skipped;  ///< in order of file and offset
  std::uint32_t parts = 1;
  std::vector<std::string> notes;  ///< sentences that whoever reads the output should know
};

/// Sees every event; false cancels the job.
using OnProgress =
    std::function<bool(const proto::mapreduce::Progress&, std::uint64_t input_bytes)>;

/// A quarter of the machine's memory, at most 1 GiB.
std::uint64_t default_memory_bytes();

/// How many tasks all devices run at once, by the scheduler that `kernel` has a route to.
/// service_down: none yet.
Result<std::uint32_t> device_threads(Kernel& kernel);

/// `port` is a connect handle of the service. On an error the output folder is as it was, and the
/// message says what is wrong, with the input file and the offset where it is about one, and in a
/// chain the stage. cancelled when `on_progress` said so. When the service, the scheduler or
/// storage dies meanwhile a job is done anew from the beginning, in a chain the one that runs;
/// peer_closed when that happened three times.
Result<Report> run(Kernel& kernel, Handle port, const Options& options,
                   const OnProgress& on_progress);

}  // namespace aios::mapreduce_client
