#include <aios/codelet.h>

/* A bit for each share that was done in word 0; the number of shares in word 1. */
static int32_t mark_share(const aios_task* task) {
  __atomic_fetch_or(&task->result[0], 1ull << task->share, __ATOMIC_RELAXED);
  task->result[1] = task->shares;
  return task->block[0] + task->block[1] + task->block[2] == 0 ? 0 : 17;
}

static int32_t fail_share(const aios_task* task) {
  return task->share == 1 ? 17 : 0;
}

/* Word 2 counts blocks: nobody may come here who listed a function for shares. */
static int32_t count_block(const aios_task* task) {
  __atomic_fetch_add(&task->result[2], 1, __ATOMIC_RELAXED);
  return 0;
}

static const aios_codelet codelets[] = {
    {"mark", count_block}, {"fail", count_block}, {"plain", count_block}};
static const aios_codelet shares[] = {{"mark", mark_share}, {"fail", fail_share}, {"plain", 0}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 3, codelets};
const aios_module_table aios_module_shares = {AIOS_CODELET_ABI, 3, shares};
