// A server that notes what is in flight (abi/runtime/in_flight.hpp) knows requests by the numbers
// that their clients give them.
#include "tests/hostile/raw_link.hpp"
#include "tests/support/brittle/protocol.hpp"
#include "tests/system/echo_instance.hpp"

using namespace aios;
using namespace aios::test;
using proto::brittle::Work;

TEST_CASE("Two requests under one number end their link, and others are served") {
  const auto instance = need(TestInstance::boot_running(R"(
[server.brittle]
binary = "aios-brittle"
publish = true
)"));
  const auto kernel = hostile::RawKernel::ready(instance->socket_path(), "hostile");
  REQUIRE(kernel != nullptr);
  const auto link = hostile::RawLink::connect(*kernel, kernel->startup("brittle"),
                                              proto::brittle::Protocol::version);
  REQUIRE(link != nullptr);
  const auto send = [&](std::uint32_t number, std::uint64_t delay_ns) {
    const Work::Request request{number, delay_ns, 0, 0};
    link->publish({Work::opcode, sizeof request, number}, std::as_bytes(std::span(&request, 1)));
  };
  // A number whose request has ended may be used again.
  for (int i = 0; i < 2; ++i) {
    send(7, 0);
    REQUIRE(link->await(false) == hostile::Outcome::consumed);
    REQUIRE(TestInstance::wait_until([&] { return link->take() != 0; }).has_value());
  }
  send(8, 60 * ns_per_s);
  send(8, 60 * ns_per_s);
  CHECK(link->await_closed());
  const auto client = need(instance->visitor().client<proto::brittle::Protocol>());
  const auto reply = need(client->call<Work>({1, 0, 0, 0}, patience()));
  CHECK(reply.value == 1);
  CHECK(need(instance->server("brittle")).restarts == 0);
}
