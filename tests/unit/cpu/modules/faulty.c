#include <aios/codelet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int32_t run_abort(const aios_task* task) {
  (void)task;
  abort();
}

static int32_t run_fault(const aios_task* task) {
  *(volatile int*)(uintptr_t)(task->grid[0] * 16) = 1;
  return 0;
}

static int32_t run_divide(const aios_task* task) {
  volatile int zero = 0;
  return (int32_t)task->grid[0] / zero;
}

static int32_t recurse(volatile char* outer) {
  volatile char frame[4096];
  frame[0] = *outer;
  return *outer == 'x' ? 0 : recurse(frame) + frame[0];
}

static int32_t run_overflow(const aios_task* task) {
  volatile char first = (char)task->grid[0];
  return recurse(&first);
}

static int32_t run_loop(const aios_task* task) {
  (void)task;
  for (volatile int again = 1; again;) continue;
  return 0;
}

static int32_t run_exit(const aios_task* task) {
  (void)task;
  _exit(0);
}

static int32_t run_write_input(const aios_task* task) {
  *(volatile char*)task->buffers[0].data = 1;
  return 0;
}

static int32_t run_connect(const aios_task* task) {
  (void)task;
  return socket(AF_UNIX, SOCK_STREAM, 0) < 0;
}

static const aios_codelet codelets[] = {{"abort", run_abort},
                                        {"fault", run_fault},
                                        {"divide", run_divide},
                                        {"overflow", run_overflow},
                                        {"loop", run_loop},
                                        {"exit", run_exit},
                                        {"write_input", run_write_input},
                                        {"connect", run_connect}};
const aios_module_table aios_module = {AIOS_CODELET_ABI, 8, codelets};
