#include <aios/codelet.h>

const aios_module_table aios_module = {AIOS_CODELET_ABI, 0, 0};
