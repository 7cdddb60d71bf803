// Runs a test's body as a context runs: the first process of its own namespaces, uid 0 inside.
#pragma once

#include <functional>
#include <string>

namespace aios::cpu::test {

struct Outcome {
  bool signalled = false;
  int code = -1;       ///< exit code, or the signal
  std::string output;  ///< what it wrote to standard error
};

/// True when this host lets this user make namespaces; the tests that need them
/// are skipped without.
bool namespaces_available();

/// `body` returns the exit code. It must use no doctest macro.
Outcome run_isolated(const std::function<int()>& body);

}  // namespace aios::cpu::test
