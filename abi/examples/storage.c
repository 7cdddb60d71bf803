/* Writes an object, reads it back, lists and removes it: storage */
#include <aios/storage.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const uint64_t timeout_ns = 20000000000u;
static const char name[] = "examples/greeting";

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, aios_last_error());
  return 1;
}

/* The same object straight into shared memory, without a copy on the way. */
static int read_into_region(aios_instance* instance, aios_storage* storage) {
  aios_region* region = NULL;
  uint64_t bytes = 0;
  if (aios_region_create(instance, 4096, "greeting", 0, &region) != AIOS_OK)
    return failed("create region");
  if (aios_storage_get_region(storage, name, 0, 0, region, 0, 4096, timeout_ns, &bytes, NULL) !=
      AIOS_OK)
    return failed("get");
  printf("in shared memory: %.*s\n", (int)bytes, (const char*)aios_region_data(region));
  aios_region_close(region);
  return 0;
}

int main(void) {
  static const char text[] = "hello from a program";
  aios_instance* instance = NULL;
  aios_storage* storage = NULL;
  aios_object_info info;
  aios_object_entry entries[8];
  char copy[64];
  size_t count = 0;
  int more = 0;
  if (aios_attach(NULL, &instance) != AIOS_OK) return failed("attach");
  if (aios_storage_open(instance, &storage) != AIOS_OK) return failed("open storage");
  if (aios_storage_put(storage, name, text, strlen(text), timeout_ns, &info) != AIOS_OK)
    return failed("put");
  if (aios_storage_get(storage, name, info.version, 0, copy, sizeof copy, timeout_ns, &count,
                       NULL) != AIOS_OK)
    return failed("get");
  printf("read: %.*s\n", (int)count, copy);
  if (read_into_region(instance, storage) != 0) return 1;
  if (aios_storage_list(storage, "examples/", NULL, entries, 8, timeout_ns, &count, &more) !=
      AIOS_OK)
    return failed("list");
  for (size_t i = 0; i < count; ++i)
    printf("%s has %" PRIu64 " bytes\n", entries[i].name, entries[i].info.size_bytes);
  if (aios_storage_remove(storage, name, timeout_ns) != AIOS_OK) return failed("remove");
  aios_storage_close(storage);
  aios_detach(instance);
  return 0;
}
