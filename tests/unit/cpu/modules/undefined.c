#include <aios/codelet.h>

int32_t nobody_defines_this(const aios_task* task);
static const aios_codelet codelets[] = {{"use", nobody_defines_this}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 1, codelets};
