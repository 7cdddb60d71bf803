/* On a machine with several NUMA nodes: regions lie where they were asked for, and where their
 * creator is. With one node, or where the host does not tell, that they are there at all. And in
 * huge pages. Prints a line for each; exit code 1: one is not as it should be. */
#define _GNU_SOURCE
#include <aios/aios.h>
#include <errno.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, MOST_NODES = 64 };
static const uint64_t size_bytes = 24u << 20;
static int failed;

/* A bit for each node that memory may come from; 0: not known. */
static unsigned long nodes_here(void) {
  unsigned long nodes[64] = {0};
  return syscall(SYS_get_mempolicy, NULL, nodes, 64 * 64 + 1, NULL, MPOL_F_MEMS_ALLOWED) == 0
             ? nodes[0]
             : 0;
}

/* Makes a region and counts its pages by node. */
static aios_code count_pages(aios_instance* instance, uint32_t flags, unsigned long counts[]) {
  aios_region* region = NULL;
  const aios_code code = aios_region_create(instance, size_bytes, "placed", flags, &region);
  if (code != AIOS_OK) return code;
  volatile unsigned char* bytes = aios_region_data(region);
  memset(counts, 0, MOST_NODES * sizeof *counts);
  for (uint64_t at = 0; at < aios_region_size(region); at += PAGE) {
    (void)bytes[at];
    void* page = (void*)(bytes + at);
    int node = -1;
    if (syscall(SYS_move_pages, 0, 1UL, &page, NULL, &node, 0) == 0 && node >= 0) ++counts[node];
  }
  aios_region_close(region);
  return AIOS_OK;
}

/* What is expected: all pages on `node`, or, where it is -1, as many on each of `nodes`. */
static void look(aios_instance* instance, const char* what, uint32_t flags, int node,
                 unsigned long nodes) {
  unsigned long counts[MOST_NODES];
  const aios_code code = count_pages(instance, flags, counts);
  int good = code == AIOS_OK;
  printf("%-16s", what);
  for (int i = 0; code == AIOS_OK && i < MOST_NODES; ++i) {
    if ((nodes >> i & 1) == 0) continue;
    printf(" node %d: %lu", i, counts[i]);
    const unsigned long all = size_bytes / PAGE;
    const unsigned long share = all / (unsigned long)__builtin_popcountl(nodes);
    if (node >= 0)
      good &= counts[i] == (i == node ? all : 0);
    else
      good &= counts[i] >= share - 1 && counts[i] <= share + 1;
  }
  printf(" %s\n", good ? "ok" : code != AIOS_OK ? aios_last_error() : "WRONG");
  failed |= !good;
}

static void look_from_each_processor(aios_instance* instance, unsigned long nodes) {
  for (int cpu = 0; cpu < (int)sysconf(_SC_NPROCESSORS_ONLN); ++cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    unsigned node = 0;
    if (sched_setaffinity(0, sizeof set, &set) != 0 || getcpu(NULL, &node) != 0) continue;
    char what[32];
    snprintf(what, sizeof what, "from cpu %d", cpu);
    look(instance, what, 0, (int)node, nodes);
  }
}

/* Whether a region that wants only huge pages has them, by what Linux says of the mapping. */
static void look_at_huge_pages(aios_instance* instance) {
  aios_region* region = NULL;
  const aios_code code =
      aios_region_create(instance, size_bytes, "huge", AIOS_REGION_HUGE_PAGES_ONLY, &region);
  if (code == AIOS_NOT_SUPPORTED || code == AIOS_NO_MEMORY) {
    printf("huge pages       %s\n", aios_last_error());
    return;
  }
  char begin[32];
  snprintf(begin, sizeof begin, "%lx-", (unsigned long)aios_region_data(region));
  FILE* smaps = fopen("/proc/self/smaps", "r");
  char line[512];
  int here = 0;
  unsigned long huge_kb = 0;
  while (smaps != NULL && fgets(line, sizeof line, smaps) != NULL) {
    if (strncmp(line, begin, strlen(begin)) == 0) here = 1;
    if (here && sscanf(line, "ShmemPmdMapped: %lu", &huge_kb) == 1) break;
  }
  const int good = code == AIOS_OK && huge_kb * 1024 == size_bytes;
  printf("huge pages       %lu KiB of %lu %s\n", huge_kb, (unsigned long)size_bytes / 1024,
         good ? "ok" : "WRONG");
  failed |= !good;
  if (smaps != NULL) fclose(smaps);
  aios_region_close(region);
}

int main(void) {
  aios_instance* instance = NULL;
  if (aios_attach(NULL, &instance) != AIOS_OK) {
    fprintf(stderr, "cannot attach: %s\n", aios_last_error());
    return 1;
  }
  const unsigned long nodes = nodes_here();
  printf("nodes %lx\n", nodes);
  if (nodes != 0) {
    for (int node = 0; node < MOST_NODES; ++node)
      if ((nodes >> node & 1) != 0)
        look(instance, "on one", AIOS_REGION_ON_NODE(node), node, nodes);
    look(instance, "over all", AIOS_REGION_SPREAD, -1, nodes);
    look_from_each_processor(instance, nodes);
  }
  look_at_huge_pages(instance);
  aios_detach(instance);
  return failed;
}
