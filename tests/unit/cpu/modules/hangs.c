#include <aios/codelet.h>

__attribute__((constructor)) static void never_return(void) {
  for (volatile int again = 1; again;) continue;
}

static int32_t nothing(const aios_task* task) {
  return task == 0;
}
static const aios_codelet codelets[] = {{"nothing", nothing}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 1, codelets};
