/* A region that two programs share, by its label in their job:
 *
 *   aiosctl run --job demo -- sh -c 'share write "a text" && share read'
 *
 * The second program finds it also when the first has ended: it belongs to the job. To hand a
 * region to one program only, serve it: aios_request_grant and aios_region_receive. */
#include <aios/aios.h>
#include <stdio.h>
#include <string.h>

static const char label[] = "shared-text";

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, aios_last_error());
  return 1;
}

static int write_text(aios_instance* instance, const char* text) {
  aios_region* region = NULL;
  if (aios_region_create(instance, strlen(text) + 1, "text", 0, &region) != AIOS_OK)
    return failed("create region");
  memcpy(aios_region_data(region), text, strlen(text) + 1);
  /* Whoever opens it may read it only. */
  if (aios_region_keep(region, label, AIOS_GRANT_READ) != AIOS_OK) return failed("keep region");
  aios_region_close(region);
  return 0;
}

static int read_text(aios_instance* instance) {
  aios_region* region = NULL;
  if (aios_region_open(instance, label, AIOS_GRANT_READ, &region) != AIOS_OK)
    return failed("open region");
  printf("%.*s\n", (int)aios_region_size(region), (const char*)aios_region_data(region));
  aios_region_close(region);
  if (aios_forget(instance, label) != AIOS_OK) return failed("forget region");
  return 0;
}

int main(int argc, char** argv) {
  aios_instance* instance = NULL;
  int result = 2;
  if (aios_attach(NULL, &instance) != AIOS_OK) return failed("attach");
  if (argc == 3 && strcmp(argv[1], "write") == 0)
    result = write_text(instance, argv[2]);
  else if (argc == 2 && strcmp(argv[1], "read") == 0)
    result = read_text(instance);
  else
    fprintf(stderr, "usage: share write TEXT | share read\n");
  aios_detach(instance);
  return result;
}
