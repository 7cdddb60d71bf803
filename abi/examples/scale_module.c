/* A codelet for the tasks examples: multiplies numbers in place.
 *
 *   cc -std=c11 -O2 -fPIC -shared -o scale_module.so scale_module.c $(pkg-config --cflags aios) */
#include <aios/codelet.h>
#include <string.h>

static int32_t scale(const aios_task* task) {
  double factor;
  if (task->buffer_count != 1 || task->argument_bytes != sizeof factor) return 1;
  memcpy(&factor, task->arguments, sizeof factor);
  double* numbers = task->buffers[0].data;
  const uint64_t count = task->buffers[0].size / sizeof *numbers;
  /* Each block of the grid has its share. */
  const uint64_t first = count * task->block[0] / task->grid[0];
  const uint64_t end = count * (task->block[0] + 1) / task->grid[0];
  for (uint64_t i = first; i < end; ++i) numbers[i] *= factor;
  return 0;
}

static const aios_codelet codelets[] = {{"scale", scale}};
AIOS_EXPORT const aios_module_table aios_module = {AIOS_CODELET_ABI, 1, codelets};
