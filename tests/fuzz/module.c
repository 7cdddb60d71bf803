/* Codelets that use exactly what they are given: a context that gives them wrong memory crashes. */
#include <aios/codelet.h>
#include <string.h>
#include <unistd.h>

/* Reads every byte of every buffer and writes those that are to be written. */
static int32_t touch(const aios_task* task) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < task->buffer_count; ++i) {
    const aios_buffer* buffer = &task->buffers[i];
    unsigned char* bytes = buffer->data;
    for (uint64_t at = 0; bytes != NULL && at < buffer->size; ++at) sum += bytes[at];
    if (bytes != NULL && buffer->mode != AIOS_MODE_READ) memset(bytes, (int)sum, buffer->size);
    for (uint32_t file = 0; file < buffer->file_count; ++file) {
      char first[16];
      sum += (uint64_t)pread(buffer->files[file].fd, first, sizeof first,
                             (off_t)buffer->files[file].offset);
    }
  }
  for (uint32_t i = 0; i < task->argument_bytes; ++i)
    sum += ((const unsigned char*)task->arguments)[i];
  __atomic_fetch_add(&task->result[0], sum, __ATOMIC_RELAXED);
  return 0;
}

/* Fails with the status that its arguments begin with. */
static int32_t fail(const aios_task* task) {
  int32_t status = 0;
  if (task->argument_bytes >= sizeof status) memcpy(&status, task->arguments, sizeof status);
  if (task->message_bytes > 4) memcpy(task->message, "why", 4);
  return status;
}

static const aios_codelet codelets[] = {{"a", touch}, {"b", fail}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 2, codelets};
