#include "drivers/device/driver_server.hpp"
#include "tests/fuzz/target.hpp"

namespace {

using namespace aios;
namespace pk = proto::kernel;

/// Its contexts are processes that do nothing.
struct DriverHost : fuzz::Host {
  explicit DriverHost(fuzz::Place place)
      : driver(place.kernel, place.loop, spawner(place.kernel), "context"),
        server(place.kernel, place.loop, driver) {
    driver.answer_through(server);
    driver.set_devices({description()});
    (void)server.listen(place.port);
  }
  bool starts_programs() const override { return true; }
  static Handle spawner(Kernel& kernel) {
    pk::SpawnerCreate::Request request{};
    request.job = kernel.startup("root").value().handle;
    request.name = pk::Name::from("context");
    request.image = decltype(request.image)::from(fuzz::Machine::idle_program());
    return kernel.call<pk::SpawnerCreate>(request).value().reply.spawner;
  }
  static device::DeviceDescription description() {
    return {.kind = "cpu",
            .backend = "cpu",
            .uuid = "0",
            .model = "fuzzed",
            .cores = 2,
            .threads = 2,
            .numa_nodes = 1,
            .memory_bytes = 1ull << 30,
            .cache_bytes = 1ull << 20};
  }
  device::DriverServer driver;
  Server<proto::driver::Protocol, device::DriverServer> server;
};

}  // namespace

AIOS_FUZZ_SERVER(proto::driver::Protocol, DriverHost)
