// `aios-bench devices`.
#pragma once

#include <string>
#include <vector>

namespace aios::bench {

struct DevicesOptions {
  std::string socket;             ///< of an instance with the servers cpu, gpu and scheduler
  std::string codelets;           ///< folder of the standard modules
  std::vector<std::string> only;  ///< backends; empty: all
};

/// Measures every device, round by round, and prints a table or one JSON object. Throws
/// std::runtime_error.
void bench_devices(const DevicesOptions& options, int rounds, bool as_json);

}  // namespace aios::bench
