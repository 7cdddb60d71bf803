// The server of a link dies at every step of the link's life.
#include <sys/resource.h>

#include <filesystem>
#include <iterator>

#include "tests/system/echo_instance.hpp"

using namespace aios;
using namespace aios::test;

namespace pe = proto::echo;
namespace pk = proto::kernel;

TEST_CASE("A connection that was asked for before the server died is accepted by the next one") {
  const auto instance = boot_echo();
  Kernel& kernel = instance->visitor().kernel();
  const Handle port = need(kernel.startup("echo")).handle;
  const auto connected = need(kernel.call<pk::PortConnect>({port, pe::Protocol::version}));
  const auto before = kill_echo(*instance);
  need(kernel.call<pk::LinkReady>({connected.reply.link}));
  need(TestInstance::wait_until([&] {
    const auto ready = kernel.call<pk::LinkReady>({connected.reply.link});
    return !ready || ready->reply.open == 1;
  }));
  CHECK(need(instance->wait_restarted("echo", before.epoch)).pid != before.pid);
}

TEST_CASE("A call that waits for a stopped server is answered by the next one") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  const auto before = need(instance->server("echo"));
  // Stopped, it cannot accept: the connection waits at the port.
  ::kill(static_cast<pid_t>(before.pid), SIGSTOP);
  bool done = false;
  Result<pe::Echo::Reply> outcome = error(Code::internal);
  pe::Echo::Request request{};
  request.value = 9;
  client->start<pe::Echo>(request, patience(), [&](Result<pe::Echo::Reply> reply) {
    outcome = std::move(reply);
    done = true;
  });
  while (client->work()) {
  }
  CHECK(!client->connected());
  ::kill(static_cast<pid_t>(before.pid), SIGKILL);
  while (!done)
    if (!client->work() && !done) client->wait(patience());
  CHECK(need(outcome).value == 9);
  CHECK(need(instance->wait_restarted("echo", before.epoch)).restarts == before.restarts + 1);
}

TEST_CASE("A call in flight when the server dies ends with peer_closed and the next one works") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  for (int round = 0; round < 3; ++round) {
    HeldCall held(*client, 1);
    held.send();
    CHECK(need(echo(*client, 1)) == 1);
    const auto before = kill_echo(*instance);
    const auto reply = held.wait();
    REQUIRE(!reply.has_value());
    CHECK(reply.error().code() == Code::peer_closed);
    CHECK(need(echo(*client, 2)) == 2);
    CHECK(need(instance->wait_restarted("echo", before.epoch)).epoch == before.epoch + 1);
  }
}

TEST_CASE("Many calls in flight all end when the server dies") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  std::vector<std::unique_ptr<HeldCall>> held;
  for (std::uint64_t i = 0; i < 40; ++i) held.push_back(std::make_unique<HeldCall>(*client, i));
  held.front()->send();
  CHECK(need(echo(*client, 1)) == 1);
  kill_echo(*instance);
  for (auto& call : held) CHECK(call->wait().error().code() == Code::peer_closed);
  CHECK(need(echo(*client, 2)) == 2);
}

TEST_CASE("A server that died between two calls is not noticed") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  for (std::uint64_t round = 0; round < 5; ++round) {
    CHECK(need(echo(*client, round)) == round);
    const auto before = kill_echo(*instance);
    need(instance->wait_restarted("echo", before.epoch));
  }
  CHECK(need(echo(*client, 99)) == 99);
}

TEST_CASE("Every way to crash a server is followed by a restart and told as its last end") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  const auto crash = [&](proto::supervisor::CrashHow how) {
    const auto before = need(instance->server("echo"));
    need(instance->crash("echo", how));
    const auto after = need(instance->wait_restarted("echo", before.epoch));
    CHECK(process_gone(static_cast<pid_t>(before.pid)));
    CHECK(need(echo(*client, 1)) == 1);
    return std::string(after.last_end.view());
  };
  CHECK(need(echo(*client, 0)) == 0);
  CHECK(crash(proto::supervisor::CrashHow::kill) == "killed by signal 9");
  CHECK(crash(proto::supervisor::CrashHow::abort) == "killed by signal 6");
}

TEST_CASE("The links of a dead server are gone") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  CHECK(need(echo(*client, 1)) == 1);
  for (int round = 0; round < 5; ++round) {
    const auto before = kill_echo(*instance);
    need(instance->wait_restarted("echo", before.epoch));
    CHECK(need(echo(*client, 2)) == 2);
    // The supervisor's, the operator's and this client's.
    CHECK(need(instance->info()).links == 3);
  }
}

namespace {

/// Nothing more can be opened by the process, until the end of the scope.
class NoDescriptors {
 public:
  explicit NoDescriptors(pid_t pid) : pid_(pid) {
    REQUIRE(::prlimit(pid_, RLIMIT_NOFILE, nullptr, &before_) == 0);
    const std::filesystem::directory_iterator open("/proc/" + std::to_string(pid_) + "/fd");
    const rlimit none{static_cast<rlim_t>(std::distance(begin(open), end(open))), before_.rlim_max};
    REQUIRE(::prlimit(pid_, RLIMIT_NOFILE, &none, nullptr) == 0);
  }
  ~NoDescriptors() { ::prlimit(pid_, RLIMIT_NOFILE, &before_, nullptr); }

 private:
  pid_t pid_;
  rlimit before_{};
};

void check_survives_without_descriptors(TestInstance& instance, pid_t pid) {
  const auto old_client = echo_client(instance.visitor());
  CHECK(need(echo(*old_client, 1)) == 1);
  const auto visitor = need(instance.attach());
  const auto client = echo_client(*visitor);
  pe::Echo::Request request{};
  {
    const NoDescriptors none(pid);
    CHECK(!client->call<pe::Echo>(request, Deadline::after(100 * ns_per_ms)));
    CHECK(need(echo(*old_client, 2)) == 2);
  }
  CHECK(need(echo(*client, 3)) == 3);
  CHECK(need(echo(*old_client, 4)) == 4);
  CHECK(need(instance.server("echo")).restarts == 0);
}

}  // namespace

TEST_CASE("A server without descriptors serves its clients, and new ones when it has some again") {
  const auto instance = boot_echo();
  check_survives_without_descriptors(*instance,
                                     static_cast<pid_t>(need(instance->server("echo")).pid));
}

TEST_CASE("While the kernel has no descriptors clients are served, and new ones when it has some") {
  const auto instance = boot_echo();
  check_survives_without_descriptors(*instance, instance->kernel_pid());
}
