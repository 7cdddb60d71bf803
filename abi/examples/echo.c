/* The smallest application: attaches, calls the echo server twice at once, waits for both. */
#include <aios/aios.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ECHO_VERSION = 2, ECHO = 1 };

typedef struct {
  uint64_t value;
  uint8_t bytes[256];
} echo_message; /* abi/proto/echo.hpp */

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, aios_last_error());
  return 1;
}

int main(void) {
  aios_instance* instance = NULL;
  aios_service* echo = NULL;
  if (aios_attach(NULL, &instance) != AIOS_OK) return failed("attach");
  if (aios_connect(instance, "echo", ECHO_VERSION, &echo) != AIOS_OK) return failed("connect");

  aios_wait_item items[2];
  memset(items, 0, sizeof items);
  for (int i = 0; i < 2; ++i) {
    echo_message request;
    memset(&request, 0, sizeof request);
    request.value = 41 + (uint64_t)i;
    items[i].kind = AIOS_WAIT_CALL;
    if (aios_call_start(echo, ECHO, &request, sizeof request, 2000000000, &items[i].what.call) !=
        AIOS_OK)
      return failed("call");
  }
  for (int i = 0; i < 2; ++i) {
    echo_message reply;
    if (aios_wait(&items[i], 1, 2000000000) != AIOS_OK) return failed("wait");
    if (aios_call_result(items[i].what.call, &reply, sizeof reply) != AIOS_OK)
      return failed("reply");
    if (reply.value != 41 + (uint64_t)i) return 1;
  }
  printf("echo answered both calls\n");
  for (int i = 0; i < 2; ++i) aios_call_free(items[i].what.call);
  aios_service_close(echo);
  aios_detach(instance);
  return 0;
}
