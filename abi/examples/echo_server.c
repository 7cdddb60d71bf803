/* Answers what it is sent, until it is ended: echo_server */
#include <aios/server.h>
#include <stdio.h>

#include "parrot.h"

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, aios_last_error());
  return 1;
}

static aios_code answer(aios_request* request) {
  size_t bytes = 0;
  const void* message = aios_request_data(request, &bytes);
  if (aios_request_opcode(request) != PARROT_SAY)
    return aios_request_fail(request, AIOS_NOT_SUPPORTED, "a parrot can only SAY");
  if (bytes != sizeof(parrot_message))
    return aios_request_fail(request, AIOS_INVALID_ARGUMENT, "that is no parrot_message");
  return aios_request_reply(request, message, bytes);
}

int main(void) {
  aios_instance* instance = NULL;
  aios_server* server = NULL;
  if (aios_attach(NULL, &instance) != AIOS_OK) return failed("attach");
  if (aios_server_create(instance, PARROT_LABEL, PARROT_VERSION, &server) != AIOS_OK)
    return failed("serve");
  printf("serving %s\n", PARROT_LABEL);
  fflush(stdout);
  for (;;) {
    aios_request* request = NULL;
    const aios_code code = aios_server_next(server, AIOS_FOREVER, &request);
    if (code == AIOS_UNREACHABLE) break; /* the instance has ended */
    if (code != AIOS_OK) return failed("next request");
    /* PEER_CLOSED is no concern of ours: that client did not wait. */
    (void)answer(request);
  }
  aios_server_close(server);
  aios_detach(instance);
  return 0;
}
