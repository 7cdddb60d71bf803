#include "services/supervisor/supervisor_server.hpp"
#include "tests/fuzz/target.hpp"

namespace {

using namespace aios;

/// One program that never answers, one that is not there.
constexpr const char* manifest = R"([server.a]
binary = "fuzz-idle"
publish = true
[server.b]
binary = "missing"
routes = ["a"]
)";

struct SupervisorHost : fuzz::Host {
  explicit SupervisorHost(fuzz::Place place)
      : store(supervisor::ObjectStore::create(place.kernel, place.kernel.startup("root")->handle,
                                              {place.folder, libexec()})
                  .value()),
        plan(supervisor::make_plan(supervisor::parse_manifest(manifest, "fuzz").value()).value()),
        supervisor(store, place.loop, plan),
        server(place.loop, supervisor) {
    (void)server.listen(place.port);
    if (auto started = supervisor.start(place.port); !started)
      fuzz::finding("the supervisor does not start: " + started.error().to_string());
  }
  bool starts_programs() const override { return true; }
  static std::string libexec() {
    return std::filesystem::path(fuzz::Machine::idle_program()).parent_path();
  }
  supervisor::ObjectStore store;
  supervisor::Plan plan;
  supervisor::Supervisor supervisor;
  supervisor::SupervisorServer server;
};

}  // namespace

AIOS_FUZZ_SERVER(proto::supervisor::Protocol, SupervisorHost)
