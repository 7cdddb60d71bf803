#define aios_module matrix_codelets
#define aios_module_shares matrix_shares
#include <aios/kernel.h>

#include "tests/unit/cpu/starved/starved.hpp"

#define malloc starved_malloc
#define free starved_free
#include "drivers/device/codelets/matrix.kc"
