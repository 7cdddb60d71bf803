// Where there is no memory: allocations of a thread that fail on purpose. For tests that are linked
// with failing_memory.cpp, which replaces operator new of the whole program.
#pragma once

#include <doctest/doctest.h>

#include <initializer_list>

namespace aios::test {

/// While it lives, of what its thread allocates: `before` succeed, and then one fails, or all.
class FailingMemory {
 public:
  FailingMemory(long before, bool for_good);
  FailingMemory(const FailingMemory&) = delete;
  ~FailingMemory();
};

/// How many of this thread's have failed so far.
long failed_allocations();

/// Runs `body` with the first allocation failing, then the second, until none is left to fail:
/// first that one alone, then with it all that follow. `body(with_failure)` says by
/// with_failure(step) what is to fail.
template <class Body>
void with_each_failure(Body body) {
  constexpr long most = 1000;
  for (const bool for_good : {false, true})
    for (long at = 0;; ++at) {
      REQUIRE(at < most);
      const long before = failed_allocations();
      body([&](auto step) {
        const FailingMemory failing(at, for_good);
        step();
      });
      if (failed_allocations() == before) break;
    }
}

}  // namespace aios::test
