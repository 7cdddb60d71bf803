#include "services/echo/echo_server.hpp"
#include "tests/fuzz/target.hpp"

namespace {

using namespace aios;

struct EchoHost : fuzz::Host {
  explicit EchoHost(fuzz::Place place) : server(place.kernel, place.loop) {
    (void)server.listen(place.port);
  }
  echo::EchoServer server;
};

}  // namespace

AIOS_FUZZ_SERVER(proto::echo::Protocol, EchoHost)
