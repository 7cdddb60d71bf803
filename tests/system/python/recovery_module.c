/* Codelets whose results show how often, and over what, they ran. The first argument is how long
 * each takes at least, in turns of a loop. */
#include <aios/codelet.h>
#include <string.h>

static void spend(const aios_task* task) {
  uint32_t turns = 0;
  memcpy(&turns, task->arguments, sizeof turns);
  for (volatile uint32_t i = 0; i < turns; ++i) {
  }
}

/* The last buffer becomes 31 times itself as it is made of the others, plus the second argument. It
 * is nonsense while the task runs. */
static int32_t mix(const aios_task* task) {
  const uint32_t last = task->buffer_count - 1;
  uint64_t* out = task->buffers[last].data;
  const uint64_t count = task->buffers[last].size / sizeof *out;
  uint32_t more = 0;
  memcpy(&more, (const char*)task->arguments + sizeof more, sizeof more);
  uint64_t sum = more;
  for (uint64_t i = 0; i < count; ++i) out[i] = ~(uint64_t)0;
  spend(task);
  for (uint64_t i = 0; i < count; ++i) {
    sum = more;
    for (uint32_t b = 0; b < last; ++b)
      sum = sum * 31 + ((const uint64_t*)task->buffers[b].data)[i];
    out[i] = sum;
  }
  task->result[0] = sum;
  return 0;
}

/* Adds one to the first number of its buffer, at once. */
static int32_t add_one(const aios_task* task) {
  __atomic_fetch_add((uint64_t*)task->buffers[0].data, 1, __ATOMIC_RELAXED);
  spend(task);
  return 0;
}

static int32_t give_up(const aios_task* task) {
  strncpy(task->message, "as asked", task->message_bytes - 1);
  return 18;
}

static const aios_codelet codelets[] = {{"mix", mix}, {"add_one", add_one}, {"give_up", give_up}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 3, codelets};
