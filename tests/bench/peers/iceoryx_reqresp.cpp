// iceoryx 2.0: a request of 56 bytes and its response, both sides polling. Run by
// `bench-iceoryx CLIENT_CORE SERVER_CORE` beside a running iox-roudi; prints "mean p50 p99 p999" in
// nanoseconds.
#include <iceoryx_hoofs/log/logmanager.hpp>
#include <iceoryx_posh/popo/client.hpp>
#include <iceoryx_posh/popo/server.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>

#include <cstdio>
#include <cstdlib>

#include "tools/bench/peer.hpp"
#include "tools/bench/samples.hpp"

namespace {

constexpr int rounds = 50'000;

struct Message {
  std::uint64_t words[7];
};

const iox::capro::ServiceDescription service{"aios", "bench", "call"};

void serve() {
  iox::runtime::PoshRuntime::initRuntime("aios-bench-server");
  iox::popo::Server<Message, Message> server(service);
  for (;;)
    server.take().and_then([&](const auto& request) {
      server.loan(request).and_then([&](auto& response) {
        *response = *request;
        (void)response.send();
      });
    });
}

void call(iox::popo::Client<Message, Message>& client, std::uint64_t word) {
  client.loan().and_then([&](auto& request) {
    request->words[0] = word;
    (void)request.send();
  });
  bool answered = false;
  while (!answered) client.take().and_then([&](const auto&) { answered = true; });
}

}  // namespace

int main(int argc, char** argv) {
  using namespace aios::bench;
  if (argc != 3) {
    std::fputs("usage: bench-iceoryx CLIENT_CORE SERVER_CORE\n", stderr);
    return 2;
  }
  const auto peer = Peer::start(std::atoi(argv[2]), serve);
  if (!peer || !pin(std::atoi(argv[1]))) return 1;
  iox::runtime::PoshRuntime::initRuntime("aios-bench-client");
  iox::popo::Client<Message, Message> client(service);
  while (client.getConnectionState() != iox::ConnectionState::CONNECTED) {
  }
  for (int i = 0; i < rounds / 10; ++i) call(client, 1);
  Samples samples(rounds);
  std::uint64_t last = ticks();
  for (int i = 0; i < rounds; ++i) {
    call(client, 1);
    const std::uint64_t now = ticks();
    samples.add(now - last);
    last = now;
  }
  samples.quantiles().print();
}
