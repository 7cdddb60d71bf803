#include <aios/codelet.h>

static int32_t nothing(const aios_task* task) {
  return task->share == 0 ? 0 : 1;
}
static const aios_codelet codelets[] = {{"nothing", nothing}};
static const aios_codelet shares[] = {{"other", nothing}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 1, codelets};
const aios_module_table aios_module_shares = {AIOS_CODELET_ABI, 1, shares};
