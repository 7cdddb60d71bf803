// Codelets with shares of the grid, compiled so that a test decides whether they get memory.
#pragma once

#include <aios/codelet.h>

#include <cstddef>

namespace aios::test {

/// While true, codelets are refused memory.
extern thread_local bool starved;
/// The most that one had at once on this thread, in bytes, since it was set to 0.
extern thread_local std::size_t most_taken;

}  // namespace aios::test

extern "C" {
extern const aios_module_table half_shares;
extern const aios_module_table matrix_shares;

/// What they call for malloc and free.
void* starved_malloc(std::size_t bytes);
void starved_free(void* memory);
}
