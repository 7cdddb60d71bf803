/* What tests of graphs run: work with a cheaper variant, and tasks that meet. */
#include <aios/codelet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void sweep(const aios_task* task, int times) {
  volatile unsigned char* bytes = task->buffers[0].data;
  for (int i = 0; i < times; ++i)
    for (uint64_t at = 0; at < task->buffers[0].size; ++at)
      bytes[at] = (unsigned char)(bytes[at] * 5 + i);
}

/* The same over one buffer, well and cheaply. */
static int32_t careful(const aios_task* task) {
  sweep(task, 64);
  return 0;
}
static int32_t quick(const aios_task* task) {
  sweep(task, 1);
  return 0;
}

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Done when so many are here at the same time, by the count in the buffer; gives up after 20 s. */
static int32_t meet(const aios_task* task) {
  uint32_t members;
  memcpy(&members, task->arguments, sizeof members);
  uint32_t* here = task->buffers[0].data;
  const uint64_t end_ms = now_ms() + 20000;
  __atomic_fetch_add(here, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(here, __ATOMIC_SEQ_CST) < members) {
    if (now_ms() < end_ms) continue;
    snprintf(task->message, task->message_bytes, "only %u of %u came",
             __atomic_load_n(here, __ATOMIC_SEQ_CST), members);
    return 17;
  }
  task->result[0] = members;
  return 0;
}

static const aios_codelet codelets[] = {{"careful", careful}, {"meet", meet}, {"quick", quick}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 3, codelets};
