/* Submits two tasks, the second after the first, and waits for both: tasks MODULE
 * MODULE is scale_module.so. */
#include <aios/codelet.h>
#include <aios/tasks.h>
#include <inttypes.h>
#include <stdio.h>

enum { NUMBERS = 1000, BLOCKS = 4, TASKS = 2 };
static const uint64_t timeout_ns = 20000000000u;

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, aios_last_error());
  return 1;
}

static int submit(aios_tenant* tenant, uint32_t codelet, uint32_t buffer) {
  static const double factors[TASKS] = {2, 0.5};
  aios_task_record tasks[TASKS];
  for (int i = 0; i < TASKS; ++i) {
    aios_task_init(&tasks[i], (uint64_t)i + 1, codelet);
    aios_task_add_buffer(&tasks[i], buffer, AIOS_MODE_READ_WRITE);
    aios_task_set_arguments(&tasks[i], &factors[i], sizeof factors[i]);
    tasks[i].grid[0] = BLOCKS;
  }
  aios_task_add_dependency(&tasks[1], tasks[0].tag);
  if (aios_tasks_submit(tenant, tasks, TASKS, timeout_ns) != AIOS_OK) return failed("submit");
  return 0;
}

static int wait_for_all(aios_tenant* tenant) {
  size_t count = 0;
  for (size_t done = 0; done < TASKS; done += count) {
    aios_completion completions[TASKS];
    if (aios_tenant_completions(tenant, completions, TASKS, timeout_ns, &count) != AIOS_OK)
      return failed("wait");
    for (size_t i = 0; i < count; ++i) {
      char why[200] = "";
      if (completions[i].status != AIOS_OK)
        aios_task_failure(tenant, completions[i].tag, why, sizeof why, timeout_ns);
      printf("task %" PRIu64 ": %s %s\n", completions[i].tag,
             aios_code_name((aios_code)completions[i].status), why);
    }
  }
  return 0;
}

int main(int argc, char** argv) {
  aios_instance* instance = NULL;
  aios_tenant* tenant = NULL;
  aios_region* region = NULL;
  uint32_t codelet = 0, buffer = 0;
  if (argc != 2) {
    fprintf(stderr, "usage: tasks MODULE, which is scale_module.so\n");
    return 2;
  }
  if (aios_attach(NULL, &instance) != AIOS_OK) return failed("attach");
  if (aios_tenant_open(instance, timeout_ns, &tenant) != AIOS_OK) return failed("open tenant");
  if (aios_codelet_register_file(tenant, argv[1], "scale", timeout_ns, &codelet) != AIOS_OK)
    return failed("register codelet");
  if (aios_region_create(instance, NUMBERS * sizeof(double), "numbers", 0, &region) != AIOS_OK)
    return failed("create region");
  double* numbers = aios_region_data(region);
  for (int i = 0; i < NUMBERS; ++i) numbers[i] = i;
  if (aios_buffer_register(tenant, region, 0, NUMBERS * sizeof(double), AIOS_GRANT_WRITE,
                           timeout_ns, &buffer) != AIOS_OK)
    return failed("register buffer");
  if (submit(tenant, codelet, buffer) != 0 || wait_for_all(tenant) != 0) return 1;
  printf("the last number is %.0f\n", numbers[NUMBERS - 1]);
  aios_region_close(region);
  aios_tenant_close(tenant);
  aios_detach(instance);
  return 0;
}
