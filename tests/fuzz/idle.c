/* Stands in for every program that a fuzzed server, or the kernel, starts. */
#include <unistd.h>

int main(void) {
  for (;;) pause();
}
