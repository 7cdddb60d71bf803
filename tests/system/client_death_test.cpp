// The client of a link dies at every step of the link's life. The server goes on, and nothing of
// the client remains.
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "tests/system/echo_instance.hpp"

using namespace aios;
using namespace aios::test;

namespace pe = proto::echo;
namespace pk = proto::kernel;

namespace {

struct Baseline {
  std::uint64_t processes;
  std::uint64_t links;
  std::uint64_t regions;
  std::uint64_t region_bytes;
  bool operator==(const Baseline&) const = default;
};

Baseline look(TestInstance& instance) {
  const auto info = need(instance.info());
  return {info.processes, info.links, info.regions, info.region_bytes};
}

/// Runs `step` in a process of its own with a connection of its own, kills it with SIGKILL when it
/// is done, and checks that it left nothing and that the server serves on. `afterwards` runs
/// between the two checks.
void die_after(
    TestInstance& instance, const std::function<bool(Visitor&)>& step,
    const std::function<void()>& afterwards = [] {}) {
  const auto server = need(instance.server("echo"));
  // The server ends its sides of links of earlier visitors before it answers a second call.
  const auto watcher = need(instance.attach());
  const auto watching = echo_client(*watcher);
  for (int i = 0; i < 2; ++i) CHECK(need(echo(*watching, 8)) == 8);
  const Baseline before = look(instance);
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    const auto visitor = instance.attach();
    const char outcome = visitor && step(**visitor) ? 'y' : 'n';
    [[maybe_unused]] const ssize_t n = ::write(pipe_ends[1], &outcome, 1);
    for (;;) ::pause();
  }
  ::close(pipe_ends[1]);
  char outcome = 0;
  CHECK(::read(pipe_ends[0], &outcome, 1) == 1);
  CHECK(outcome == 'y');
  ::close(pipe_ends[0]);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  Baseline after{};
  (void)TestInstance::wait_until([&] { return (after = look(instance)) == before; });
  CHECK(after.processes == before.processes);
  CHECK(after.links == before.links);
  CHECK(after.regions == before.regions);
  CHECK(after.region_bytes == before.region_bytes);
  afterwards();
  const auto visitor = need(instance.attach());
  CHECK(need(echo(*echo_client(*visitor), 8)) == 8);
  CHECK(need(instance.server("echo")).pid == server.pid);
}

bool connect(Visitor& visitor, bool confirm) {
  const auto port = visitor.kernel().startup("echo");
  if (!port) return false;
  const auto link = visitor.kernel().call<pk::PortConnect>({port->handle, pe::Protocol::version});
  return link && (!confirm || visitor.kernel().call<pk::LinkReady>({link->reply.link}));
}

std::unique_ptr<Client> connected_client(Visitor& visitor) {
  auto client = visitor.client<pe::Protocol>();
  if (!client || !echo(**client, 1)) return nullptr;
  return std::move(*client);
}

}  // namespace

TEST_CASE("A client that dies after it attached leaves nothing") {
  const auto instance = boot_echo();
  die_after(*instance, [](Visitor&) { return true; });
}

TEST_CASE("A client that dies while it connects leaves nothing") {
  const auto instance = boot_echo();
  die_after(*instance, [](Visitor& visitor) { return connect(visitor, false); });
  die_after(*instance, [](Visitor& visitor) { return connect(visitor, true); });
}

TEST_CASE("A client that dies before it is accepted leaves nothing") {
  const auto instance = boot_echo();
  const auto pid = static_cast<pid_t>(need(instance->server("echo")).pid);
  die_after(
      *instance,
      [pid](Visitor& visitor) {
        ::kill(pid, SIGSTOP);
        return connect(visitor, true);
      },
      [pid] { ::kill(pid, SIGCONT); });
}

TEST_CASE("A client that dies between two calls leaves nothing") {
  const auto instance = boot_echo();
  die_after(*instance, [](Visitor& visitor) {
    // Not destroyed: the process dies with its link open.
    static std::unique_ptr<Client> client;
    client = connected_client(visitor);
    return client != nullptr;
  });
}

TEST_CASE("A client that dies with calls in flight leaves nothing") {
  const auto instance = boot_echo();
  die_after(*instance, [](Visitor& visitor) {
    static std::unique_ptr<Client> client;
    client = connected_client(visitor);
    if (client == nullptr) return false;
    for (std::uint64_t i = 0; i < 20; ++i)
      client->start<pe::Hold>({i}, patience(), [](const Result<proto::Empty>&) {});
    client->work();
    return echo(*client, 2).has_value();
  });
  // What the dead client held was forgotten with it.
  const auto client = echo_client(instance->visitor());
  CHECK(need(client->call<pe::Release>({1}, patience())).released == 0);
}

TEST_CASE("A client that dies with answers it never read leaves nothing") {
  const auto instance = boot_echo();
  die_after(*instance, [](Visitor& visitor) {
    static std::unique_ptr<Client> client;
    client = connected_client(visitor);
    if (client == nullptr) return false;
    for (std::uint64_t i = 0; i < 1000; ++i)
      client->start<pe::Echo>({}, patience(), [](const Result<pe::Echo::Reply>&) {});
    client->work();
    return true;
  });
}

TEST_CASE("A client that dies after it sent a region leaves nothing") {
  const auto instance = boot_echo();
  die_after(*instance, [](Visitor& visitor) {
    static std::unique_ptr<Client> client;
    static Region region;
    client = connected_client(visitor);
    auto made = Region::create(visitor.kernel(), 1 << 20, "numbers");
    if (client == nullptr || !made) return false;
    region = std::move(*made);
    return client
        ->call_with_handles<pe::Sum>(
            {}, {{region.handle(), ObjectType::region, rights::info | rights::map_read, 0, false}},
            [](std::span<const Handle> handles, pe::Sum::Request& request) {
              request.region = handles[0];
            },
            patience())
        .has_value();
  });
}

TEST_CASE("A region sent with a call that the server never took is freed with the server's link") {
  const auto instance = boot_echo();
  const auto pid = static_cast<pid_t>(need(instance->server("echo")).pid);
  die_after(*instance, [pid](Visitor& visitor) {
    static std::unique_ptr<Client> client;
    client = connected_client(visitor);
    if (client == nullptr) return false;
    ::kill(pid, SIGSTOP);
    client->start<pe::Hold>({1}, patience(), [](const Result<proto::Empty>&) {});
    client->work();
    ::kill(pid, SIGCONT);
    return true;
  });
}
