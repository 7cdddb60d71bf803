#include "services/mapreduce/mapreduce_server.hpp"
#include "services/scheduler/policy/policy.hpp"
#include "services/scheduler/server/scheduler_server.hpp"
#include "tests/fuzz/fake_device.hpp"
#include "tests/fuzz/target.hpp"

namespace {

using namespace aios;
namespace ps = proto::storage;

Handle make_port(Kernel& kernel) {
  const auto name = proto::kernel::Name::from("fake");
  return kernel.call<proto::kernel::PortCreate>({name}).value().reply.port;
}

/// Takes everything and keeps nothing.
class FakeStorage {
 public:
  FakeStorage(Kernel& kernel, EventLoop& loop)
      : port_(make_port(kernel)), kernel_(kernel), server_(kernel, loop, *this) {
    (void)server_.listen(port_);
  }
  Handle port() const { return port_; }
  template <class M>
  Answer<typename M::Reply> handle(M, const typename M::Request& request, CallContext&) {
    typename M::Reply reply{};
    if constexpr (std::is_same_v<M, ps::AttachRegion>) kernel_.close(request.region);
    if constexpr (std::is_same_v<M, ps::Get>) reply.length = request.length;
    return reply;
  }

 private:
  Handle port_;
  Kernel& kernel_;
  Server<ps::Protocol, FakeStorage> server_;
};

/// Under it the real scheduler with a fake device.
struct MapReduceHost : fuzz::Host {
  explicit MapReduceHost(fuzz::Place place)
      : driver(place.kernel, place.loop),
        scheduler(place.kernel, place.loop, scheduler::make_policy("learned").value()),
        tasks(place.kernel, place.loop, scheduler),
        tasks_port(make_port(place.kernel)),
        storage(place.kernel, place.loop),
        server(place.kernel, place.loop, tasks_port, storage.port()) {
    scheduler.answer_through(tasks);
    scheduler.add_driver("fake",
                         std::make_unique<Client>(place.kernel, &place.loop, driver.port(),
                                                  proto::driver::Protocol::version, "fake"));
    (void)tasks.listen(tasks_port);
    (void)server.listen(place.port);
  }
  fuzz::FakeDriver driver;
  scheduler::SchedulerServer scheduler;
  Server<proto::scheduler::Protocol, scheduler::SchedulerServer> tasks;
  Handle tasks_port;
  FakeStorage storage;
  mapreduce::MapReduceServer server;
};

}  // namespace

AIOS_FUZZ_SERVER(proto::mapreduce::Protocol, MapReduceHost)
