/* Says two things to the echo server at once and waits for both answers: echo_client */
#include <aios/aios.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "parrot.h"

#define CALLS 2
static const uint64_t timeout_ns = 5000000000u;

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, aios_last_error());
  return 1;
}

int main(void) {
  aios_instance* instance = NULL;
  aios_service* parrot = NULL;
  aios_wait_item items[CALLS];
  memset(items, 0, sizeof items);
  if (aios_attach(NULL, &instance) != AIOS_OK) return failed("attach");
  if (aios_connect(instance, PARROT_LABEL, PARROT_VERSION, &parrot) != AIOS_OK)
    return failed("connect");

  for (int i = 0; i < CALLS; ++i) {
    parrot_message message;
    memset(&message, 0, sizeof message);
    message.number = (uint64_t)i;
    snprintf(message.text, sizeof message.text, "hello %d", i);
    items[i].kind = AIOS_WAIT_CALL;
    if (aios_call_start(parrot, PARROT_SAY, &message, sizeof message, timeout_ns,
                        &items[i].what.call) != AIOS_OK)
      return failed("call");
  }
  for (int i = 0; i < CALLS; ++i) {
    parrot_message answer;
    if (aios_wait(&items[i], 1, AIOS_FOREVER) != AIOS_OK) return failed("wait");
    if (aios_call_result(items[i].what.call, &answer, sizeof answer) != AIOS_OK)
      return failed("answer");
    printf("%" PRIu64 ": %s\n", answer.number, answer.text);
    aios_call_free(items[i].what.call);
  }
  aios_service_close(parrot);
  aios_detach(instance);
  return 0;
}
