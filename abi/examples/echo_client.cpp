// Says two things to the echo server at once and waits for both answers: echo_client
#include <aios/aios.hpp>
#include <cstdio>
#include <vector>

#include "parrot.h"

int main() {
  constexpr std::uint64_t timeout_ns = 5'000'000'000;
  try {
    aios::Instance instance;
    aios::Service parrot = instance.connect(PARROT_LABEL, PARROT_VERSION);
    std::vector<aios::Call> calls;
    for (int i = 0; i < 2; ++i) {
      parrot_message message{};
      message.number = static_cast<std::uint64_t>(i);
      std::snprintf(message.text, sizeof message.text, "hello %d", i);
      calls.push_back(parrot.start(PARROT_SAY, message, timeout_ns));
    }
    for (aios::Call& call : calls) {
      const auto answer = call.result<parrot_message>();
      std::printf("%llu: %s\n", static_cast<unsigned long long>(answer.number), answer.text);
    }
  } catch (const aios::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
