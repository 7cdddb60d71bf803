#define aios_module half_codelets
#define aios_module_shares half_shares
#include <aios/kernel.h>

#include "tests/unit/cpu/starved/starved.hpp"

#define malloc starved_malloc
#define free starved_free
#include "drivers/device/codelets/half.kc"
