/* The codelet of `aiosctl bench tasks`: looks busy for as many turns as its argument says. */
#include <string.h>

#include "abi/include/aios/codelet.h"

static int32_t spin(const aios_task* task) {
  uint64_t turns = 0;
  if (task->argument_bytes != 0 && task->argument_bytes != sizeof turns) return 1;
  if (task->argument_bytes != 0) memcpy(&turns, task->arguments, sizeof turns);
  for (uint64_t i = 0; i < turns; ++i) __asm__ volatile("" ::: "memory");
  return 0;
}

static const aios_codelet codelets[] = {{"spin", spin}};
AIOS_EXPORT const aios_module_table aios_module = {AIOS_CODELET_ABI, 1, codelets};
