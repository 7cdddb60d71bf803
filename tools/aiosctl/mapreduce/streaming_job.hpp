// MapReduce jobs whose mapper and reducer are programs, under Hadoop's Streaming contract.
//
// Every split of the input is given to a mapper of its own. What the mappers write goes through the
// module `streaming`, an ordinary job of the MapReduce service, which sorts it by key into parts;
// every part is given to a reducer of its own, and what that writes is the part of the output.
#pragma once

#include <string>
#include <vector>

#include "abi/lib/mapreduce/client.hpp"

namespace aios::ctl {

struct StreamingOptions {
  std::string mapper;
  std::string reducer;  ///< empty: the sorted lines are the output
  /// What the programs may read and execute beside the system's programs; a word of a command that
  /// is the path of a file is shown as well.
  std::vector<std::string> files;
  /// Of the whole; module_path is that of `streaming`.
  mapreduce_client::Options job;
};

/// As mapreduce_client::run; a counter that the programs brought below zero is told as zero. A
/// program that fails is run again, at most four times in all; then the job fails, saying which, on
/// what, how, and what it last said.
Result<mapreduce_client::Report> run_streaming(Kernel& kernel, Handle port,
                                               const StreamingOptions& options,
                                               const mapreduce_client::OnProgress& on_progress);

}  // namespace aios::ctl
