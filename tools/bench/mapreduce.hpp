// MapReduce jobs of one instance, beside what does the same on this machine without it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "abi/runtime/status.hpp"

namespace aios::bench {

struct MapReduceOptions {
  std::string socket;   ///< of the instance
  std::string modules;  ///< folder of the jobs that ship
  std::string peers;    ///< folder of the baseline's and the bound's programs
  std::string work;     ///< folder for the corpus and outputs
  std::string corpus;   ///< one file; empty: made in `work`, always the same for one size
  std::uint64_t corpus_mb = 300;
  std::uint64_t memory_mb = 0;  ///< of each job; 0: as `aiosctl mapreduce run` chooses
  std::uint32_t threads = 2;
  int rounds = 5;
  std::vector<std::string> only;  ///< cases: wordcount, sort, inverted-index
};

struct MapReduceFigures {
  std::uint64_t corpus_bytes = 0;
  std::string corpus_xxh3;
  /// Case, then system, to the MB/s of each round. Systems: aios, bound (an xxh3 of the same bytes
  /// by as many threads) and what there is to compare with.
  std::map<std::string, std::map<std::string, std::vector<double>>> mb_per_s;
};

/// Round by round, all systems of a case in turn, from a hot file cache. Outputs of systems that
/// must write the same are compared: corrupt when they differ. not_found: no such case or corpus.
Result<MapReduceFigures> measure_mapreduce(const MapReduceOptions& options);

/// One JSON object (abi/schema/bench-mapreduce.json).
void print_json(const MapReduceFigures& figures, const MapReduceOptions& options);
void print_table(const MapReduceFigures& figures);

}  // namespace aios::bench
