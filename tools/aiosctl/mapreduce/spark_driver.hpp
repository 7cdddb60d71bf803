// What has Apache Spark as its engine: aiosctl becomes its driver, the Python package in
// services/cluster.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "abi/runtime/status.hpp"

namespace aios::ctl {

struct SparkJob {
  std::string module_path;
  std::string label;
  std::vector<std::string> inputs;
  std::string output;
  std::string master;  ///< Spark's name for the cluster: spark://HOST:PORT, yarn, …
  std::vector<std::string> settings;  ///< spark.NAME=VALUE
  std::uint32_t reducers = 1;
  std::uint64_t memory_mb = 0;  ///< of one task; 0: the package's choice
  double task_limit_s = 0;
  std::uint64_t max_bad_records = 0;
  std::string mapper;  ///< Streaming's; the module sorts what it writes
  std::string reducer;
  std::vector<std::string> files;
  std::string input_format;
  std::string field;
  std::vector<std::string> then;  ///< later jobs of a chain, as JSON: label, module, arguments
  std::string device_job;         ///< the one that the module is for, as JSON; empty: none
  bool json = false;
  std::vector<std::string> arguments;
};

/// Runs the driver in this process, with the Python that $AIOS_PYTHON names, else python3. Returns
/// only when that cannot be: not_found, naming it.
Status become_spark_driver(const std::vector<std::string>& arguments);
/// A MapReduce job's.
Status become_spark_driver(const SparkJob& job);

}  // namespace aios::ctl
