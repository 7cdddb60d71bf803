#include <aios/codelet.h>

int numa_available(void);

static int32_t use(const aios_task* task) {
  return task == 0 ? 1 : numa_available();
}
static const aios_codelet codelets[] = {{"use", use}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 1, codelets};
