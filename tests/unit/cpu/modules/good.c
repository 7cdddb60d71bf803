#include <aios/codelet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Counts its blocks; word 1 sums their positions. */
static int32_t count(const aios_task* task) {
  const uint32_t position =
      task->block[0] + task->grid[0] * (task->block[1] + task->grid[1] * task->block[2]);
  __atomic_fetch_add(&task->result[0], 1, __ATOMIC_RELAXED);
  __atomic_fetch_add(&task->result[1], position, __ATOMIC_RELAXED);
  return 0;
}

/* Fails in the block and with the status that its arguments, two numbers, name. */
static int32_t fail(const aios_task* task) {
  uint32_t words[2];
  memcpy(words, task->arguments, sizeof words);
  if (task->block[0] != words[0]) return 0;
  snprintf(task->message, task->message_bytes, "block %u gave up", task->block[0]);
  return (int32_t)words[1];
}

static int32_t fail_silently(const aios_task* task) {
  return task->block[0] == 1 ? 17 : 0;
}

/* Adds one to every byte of buffer 0 into buffer 1. */
static int32_t increment(const aios_task* task) {
  const unsigned char* in = task->buffers[0].data;
  unsigned char* out = task->buffers[1].data;
  for (uint64_t i = 0; i < task->buffers[0].size; ++i) out[i] = (unsigned char)(in[i] + 1);
  return 0;
}

/* Its first file's piece, as far as it fits, is the result. */
static int32_t read_file(const aios_task* task) {
  const aios_file_piece* piece = &task->buffers[0].files[0];
  if (task->block[0] != 0) return 0;
  return pread(piece->fd, task->result, piece->length, (off_t)piece->offset) < 0 ? 17 : 0;
}

static const aios_codelet codelets[] = {{"count", count},
                                        {"fail", fail},
                                        {"fail_silently", fail_silently},
                                        {"increment", increment},
                                        {"read_file", read_file}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 5, codelets};
