#include <doctest/doctest.h>

#include "tests/protocol/kernel/harness.hpp"

using namespace aios;
using namespace aios::test;

TEST_CASE("Two outside programs open a link and the bytes of one half are seen by the other") {
  Machine machine;
  Client server = Client::ready(machine.socket_path(), "server");
  const wire::Handle port = publish_port(server, "echo");
  Client client = Client::ready(machine.socket_path(), "client");
  const OpenLink link = open_link(client, client.startup("echo"), server, port);
  link.server_map.data()[proto::page_bytes] = std::byte{42};
  const auto seen = Mapping::map(link.client_sees_half, proto::half_bytes, Mapping::Access::read);
  REQUIRE(seen);
  CHECK(seen->data()[proto::page_bytes] == std::byte{42});
}
