#include "services/scheduler/policy/policy.hpp"
#include "services/scheduler/server/scheduler_server.hpp"
#include "tests/fuzz/fake_device.hpp"
#include "tests/fuzz/target.hpp"

namespace {

using namespace aios;

struct SchedulerHost : fuzz::Host {
  explicit SchedulerHost(fuzz::Place place)
      : driver(place.kernel, place.loop),
        scheduler(place.kernel, place.loop, scheduler::make_policy("learned").value()),
        server(place.kernel, place.loop, scheduler) {
    scheduler.answer_through(server);
    scheduler.add_driver("fake",
                         std::make_unique<Client>(place.kernel, &place.loop, driver.port(),
                                                  proto::driver::Protocol::version, "fake"));
    (void)server.listen(place.port);
  }
  fuzz::FakeDriver driver;
  scheduler::SchedulerServer scheduler;
  Server<proto::scheduler::Protocol, scheduler::SchedulerServer> server;
};

}  // namespace

AIOS_FUZZ_SERVER(proto::scheduler::Protocol, SchedulerHost)
