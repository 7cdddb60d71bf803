#include <aios/codelet.h>

static const aios_codelet codelets[] = {{"nothing", 0}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 1, codelets};
