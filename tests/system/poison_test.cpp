// Requests that crash their server, and those that only happen to be there.
#include <deque>

#include "tests/support/brittle/protocol.hpp"
#include "tests/system/echo_instance.hpp"

using namespace aios;
using namespace aios::test;
using proto::brittle::Work;

namespace {

std::unique_ptr<TestInstance> boot_brittle(const std::string& instance_keys = {}) {
  return boot_echo("[instance]\n" + instance_keys + R"(
[server.brittle]
binary = "aios-brittle"
publish = true
)");
}

std::unique_ptr<Client> brittle_client(Visitor& visitor) {
  return need(visitor.client<proto::brittle::Protocol>());
}

/// Calls on their way over one client.
class Calls {
 public:
  explicit Calls(Client& client) : client_(client) {}
  void start(const Work::Request& request) {
    outcomes_.emplace_back();
    client_.start<Work>(
        request, patience(),
        [&outcome = outcomes_.back()](Result<Work::Reply> reply) { outcome = std::move(reply); });
  }
  /// Until the requests have left.
  void send() {
    need(TestInstance::wait_until([this] {
      while (client_.work()) {
      }
      return client_.connected();
    }));
    while (client_.work()) {
    }
  }
  Result<Work::Reply> wait(std::size_t index) {
    while (!outcomes_[index])
      if (!client_.work() && !outcomes_[index]) client_.wait(patience());
    return *outcomes_[index];
  }

 private:
  Client& client_;
  std::deque<std::optional<Result<Work::Reply>>> outcomes_;
};

}  // namespace

TEST_CASE("A request that crashes its server alone twice is failed and the server goes on") {
  const auto instance = boot_brittle();
  const auto client = brittle_client(instance->visitor());
  const auto poisoned = client->call<Work>({1, 0, 1, 0}, patience());
  REQUIRE(!poisoned.has_value());
  CHECK(poisoned.error().code() == Code::crashed);
  CHECK(need(client->call<Work>({2, 0, 0, 0}, patience())).value == 2);
  const auto after = need(instance->server("brittle"));
  CHECK(after.restarts == 2);
  // It is known for a while, without another crash.
  CHECK(client->call<Work>({1, 0, 1, 0}, patience()).error().code() == Code::crashed);
  CHECK(need(instance->server("brittle")).restarts == 2);
}

TEST_CASE("Requests beside one that is poison run again one at a time and are answered") {
  const auto instance = boot_brittle();
  const auto other = need(instance->attach());
  const auto client = brittle_client(instance->visitor());
  const auto poisoner = brittle_client(*other);
  // To connect may take longer than the others are in flight.
  need(poisoner->call<proto::Null>({}, patience()));
  Calls innocent(*client);
  constexpr std::uint64_t count = 8;
  for (std::uint64_t i = 0; i < count; ++i) innocent.start({i, 400 * ns_per_ms, 0, 0});
  innocent.send();
  // Behind them on their link: all are in flight when the poison crashes the server.
  need(client->call<proto::Null>({}, patience()));
  Calls poison(*poisoner);
  poison.start({100, 0, 1, 0});
  poison.send();
  CHECK(poison.wait(0).error().code() == Code::crashed);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto reply = need(innocent.wait(i));
    CHECK(reply.value == i);
    CHECK(reply.most_at_once == 1);
  }
  CHECK(need(instance->server("brittle")).restarts <= 4);
}

TEST_CASE("A kill from outside condemns no request") {
  const auto instance = boot_brittle();
  const auto client = brittle_client(instance->visitor());
  Calls calls(*client);
  calls.start({7, 300 * ns_per_ms, 0, 0});
  calls.send();
  for (int kill = 0; kill < 4; ++kill) {
    const auto before = need(instance->server("brittle"));
    ::kill(static_cast<pid_t>(before.pid), SIGKILL);
    need(instance->wait_restarted("brittle", before.epoch));
    calls.send();
  }
  CHECK(need(calls.wait(0)).value == 7);
}

TEST_CASE("A request that hangs its server alone twice is failed as well") {
  const auto instance = boot_brittle(
      "heartbeat_ms = 50\nmissed_heartbeats = 2\nstop_timeout_ms = 50\nstart_timeout_ms = 300\n");
  const auto client = brittle_client(instance->visitor());
  CHECK(client->call<Work>({1, 0, 0, 1}, patience()).error().code() == Code::crashed);
  CHECK(need(client->call<Work>({2, 0, 0, 0}, patience())).value == 2);
}
