// Answers what it is sent, until it is ended: echo_server
#include <aios/aios.hpp>
#include <cstdio>

#include "parrot.h"

namespace {

void answer(aios::Request request) {
  try {
    if (request.opcode() != PARROT_SAY)
      return request.fail(AIOS_NOT_SUPPORTED, "a parrot can only SAY");
    if (request.bytes().size() != sizeof(parrot_message))
      return request.fail(AIOS_INVALID_ARGUMENT, "that is no parrot_message");
    request.reply(request.as<parrot_message>());
  } catch (const aios::Error& error) {
    // A client that did not wait is no concern of ours.
    if (error.code() != AIOS_PEER_CLOSED) throw;
  }
}

}  // namespace

int main() {
  try {
    aios::Instance instance;
    aios::Server server = instance.serve(PARROT_LABEL, PARROT_VERSION);
    std::printf("serving %s\n", PARROT_LABEL);
    std::fflush(stdout);
    for (;;) answer(server.next());
  } catch (const aios::Error& error) {
    if (error.code() == AIOS_UNREACHABLE) return 0;  // the instance has ended
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
