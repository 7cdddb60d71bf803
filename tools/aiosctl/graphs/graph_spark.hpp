// A graph whose partitions run on the hosts of a cluster of Apache Spark: aiosctl becomes its
// driver.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "abi/lib/mapreduce/input.hpp"
#include "tools/aiosctl/graphs/graph_file.hpp"

namespace aios::ctl {

struct SparkGraph {
  std::string file;
  std::string output;
  std::string master;                 ///< Spark's name for the cluster
  std::vector<std::string> settings;  ///< spark.NAME=VALUE
  std::uint64_t memory_mb = 0;        ///< of one task of Spark's; 0: aiosctl's choice there
  std::uint64_t max_bad_records = 0;  ///< files of a template that may be skipped
  bool json = false;
};

/// The driver is given each partition as a graph file of its own, of a template the name of its
/// input. Returns only when it cannot be run: see spark_driver.hpp; invalid_argument: a file's name
/// is not UTF-8.
Status become_spark_driver(const GraphSource& source,
                           std::span<const mapreduce_client::InputFile> inputs,
                           const SparkGraph& graph);

}  // namespace aios::ctl
