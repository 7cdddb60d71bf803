// A region is lent over a connection whose server dies right after its answer.
#include <doctest/doctest.h>
#include <signal.h>

#include "abi/lib/storage_client.hpp"
#include "tests/protocol/storage/instance.hpp"

using namespace aios;
using namespace aios::storage::test;

TEST_CASE("A region whose lending was answered by a server that died then is lent again") {
  Instance instance;
  const auto kernel = instance.attach();
  const Handle port = kernel->startup("storage")->handle;
  auto owned = std::make_unique<Client>(*kernel, nullptr, port, wire::Protocol::version, "storage");
  Client& client = *owned;
  StorageClient storage(std::move(owned));
  const Region region = *Region::create(*kernel, 4096, "lent");
  const Deadline deadline = Deadline::after(patience_ns);
  REQUIRE(storage.put("object", {region, true, 0, 100}, deadline));
  REQUIRE(storage.take_back(region.handle(), deadline));

  // The answer is in the ring, and the server dead, before the client looks.
  bool killed = false;
  client.on_drive([&](const bool& done) {
    client.work();
    if (!std::exchange(killed, true)) {
      while (!client.link()->ready() && !deadline.passed()) ::usleep(100);
      REQUIRE(::kill(instance.storage_pid(*kernel), SIGKILL) == 0);
      while (!client.link()->closed() && !deadline.passed()) ::usleep(100);
    }
    while (!done)
      if (!client.work() && !done) client.wait(deadline);
  });
  const auto got = storage.get("object", 0, 0, {region, true, 0, 4096}, deadline);
  REQUIRE(got);
  CHECK(got->length == 100);
}
