#include <algorithm>

#include "tests/system/echo_instance.hpp"

using namespace aios;
using namespace aios::test;

namespace pe = proto::echo;
namespace ps = proto::supervisor;

namespace {

pid_t supervisor_pid(TestInstance& instance) {
  for (const auto& process : need(instance.processes()))
    if (process.name.view() == "supervisor") return static_cast<pid_t>(process.pid);
  return 0;
}

void kill_supervisor(TestInstance& instance) {
  const pid_t before = supervisor_pid(instance);
  ::kill(before, SIGKILL);
  need(TestInstance::wait_until([&] {
    const pid_t now = supervisor_pid(instance);
    return now != 0 && now != before;
  }));
}

}  // namespace

TEST_CASE("Servers run in jobs of their own and are listed in start order") {
  const auto instance = boot_echo(R"(
[server.b]
binary = "aios-echo"
routes = ["a", "supervisor"]
quota = { memory = "64M", links = 32 }

[server.a]
binary = "aios-echo"
publish = true
)");
  CHECK(need(instance->server("a")).count == 2);
  for (const char* name : {"a", "b"}) {
    const auto server = need(instance->server(name));
    CHECK(server.state == static_cast<std::uint32_t>(ps::ServerState::running));
    CHECK(server.restarts == 0);
    const auto all = need(instance->processes());
    const auto found = std::find_if(all.begin(), all.end(), [&](const auto& process) {
      return process.process_id == server.process_id;
    });
    REQUIRE(found != all.end());
    CHECK(found->job_name.view() == name);
    CHECK(found->name.view() == name);
    CHECK(found->pid == server.pid);
  }
  CHECK(need(instance->visitor().client("a", 1))->call<proto::Null>({}, patience()).has_value());
  CHECK(instance->visitor().client("b", 1).error().code() == Code::not_found);
}

TEST_CASE("A killed supervisor comes back and no link notices") {
  const auto instance = boot_echo();
  const auto other = need(instance->attach());
  const auto client = echo_client(instance->visitor());
  const auto releaser = echo_client(*other);
  const auto before = need(instance->server("echo"));
  HeldCall held(*client, 3);
  held.send();
  CHECK(need(echo(*client, 1)) == 1);
  for (int round = 0; round < 3; ++round) {
    kill_supervisor(*instance);
    CHECK(need(echo(*releaser, 2)) == 2);
    const auto after = need(instance->wait_restarted("echo", before.epoch - 1));
    CHECK(after.pid == before.pid);
    CHECK(after.epoch == before.epoch);
    CHECK(after.restarts == before.restarts);
  }
  CHECK(!held.done());
  CHECK(need(releaser->call<pe::Release>({3}, patience())).released == 1);
  CHECK(held.wait().has_value());
  CHECK(need(instance->info()).supervisor_restarts == 3);
}

TEST_CASE("A restarted supervisor goes on watching") {
  const auto instance = boot_echo();
  kill_supervisor(*instance);
  const auto before = need(instance->wait_restarted("echo", 0));
  ::kill(static_cast<pid_t>(before.pid), SIGKILL);
  const auto after = need(instance->wait_restarted("echo", before.epoch));
  CHECK(after.restarts == before.restarts + 1);
  const auto client = echo_client(instance->visitor());
  CHECK(need(echo(*client, 1)) == 1);
}

TEST_CASE("A server that died while there was no supervisor is started again") {
  const auto instance = boot_echo();
  const auto before = need(instance->server("echo"));
  const pid_t supervisor = supervisor_pid(*instance);
  ::kill(supervisor, SIGSTOP);
  ::kill(static_cast<pid_t>(before.pid), SIGKILL);
  ::kill(supervisor, SIGKILL);
  CHECK(need(instance->wait_restarted("echo", before.epoch)).pid != before.pid);
}

TEST_CASE("A hung server is noticed by its heartbeat and replaced") {
  const auto instance =
      boot_echo("[instance]\nheartbeat_ms = 50\nstop_timeout_ms = 100\n" + echo_manifest);
  const auto client = echo_client(instance->visitor());
  CHECK(need(echo(*client, 1)) == 1);
  const auto before = need(instance->server("echo"));
  need(instance->crash("echo", ps::CrashHow::hang));
  // Sent to a server that will never read it, and then to its successor.
  CHECK(need(echo(*client, 2)) == 2);
  CHECK(need(instance->wait_restarted("echo", before.epoch)).last_end.view() ==
        "killed by signal 9");
}

TEST_CASE("Crashing what is not there, not running or in an unknown way is refused") {
  const auto instance =
      need(TestInstance::boot(echo_manifest + "[server.broken]\nbinary = \"aios-not-there\"\n"));
  CHECK(instance->crash("nobody", ps::CrashHow::kill).error().code() == Code::not_found);
  CHECK(instance->crash("broken", ps::CrashHow::kill).error().code() == Code::busy);
  CHECK(instance->crash("echo", static_cast<ps::CrashHow>(9)).error().code() ==
        Code::invalid_argument);
  const auto client = need(instance->visitor().client<ps::Protocol>());
  CHECK(client->call<ps::Server>({99}, patience()).error().code() == Code::not_found);
}

TEST_CASE("A server whose program is not there has failed and the others run") {
  const auto instance =
      need(TestInstance::boot(echo_manifest + "[server.broken]\nbinary = \"aios-not-there\"\n"));
  const auto running = instance->wait_running();
  REQUIRE(!running.has_value());
  CHECK(running.error().code() == Code::io_error);
  CHECK(running.error().message().find("server 'broken' has failed") != std::string::npos);
  CHECK(need(instance->server("broken")).state ==
        static_cast<std::uint32_t>(ps::ServerState::failed));
  const auto client = echo_client(instance->visitor());
  CHECK(need(echo(*client, 1)) == 1);
}

TEST_CASE("A server that ends before it ever answers has failed after three retries") {
  // A supervisor without the root job says so and ends.
  const auto instance =
      need(TestInstance::boot(echo_manifest + "[server.broken]\nbinary = \"aios-supervisor\"\n"));
  CHECK(instance->wait_running().error().code() == Code::io_error);
  const auto broken = need(instance->server("broken"));
  CHECK(broken.state == static_cast<std::uint32_t>(ps::ServerState::failed));
  CHECK(broken.last_end.view() == "exited with code 1");
  CHECK(broken.last_words.view().starts_with("cannot run: "));
  CHECK(instance->wait_running().error().message().find(", saying: cannot run: ") !=
        std::string::npos);
  CHECK(broken.epoch == 4);
}

TEST_CASE("A server in quarantine refuses calls at once until an operator revives it") {
  const auto instance = boot_echo("[instance]\nrestart = { count = 2 }\n" + echo_manifest);
  const auto client = echo_client(instance->visitor());
  for (int end = 0; end < 2; ++end) {
    const auto before = kill_echo(*instance);
    need(instance->wait_restarted("echo", before.epoch));
    CHECK(need(echo(*client, 1)) == 1);
  }
  // One call waits at the port of a stopped server when that is taken down.
  const auto stopped = need(instance->server("echo"));
  ::kill(static_cast<pid_t>(stopped.pid), SIGSTOP);
  const auto other = need(instance->attach());
  const auto waiting = echo_client(*other);
  HeldCall held(*waiting, 1);
  waiting->work();
  ::kill(static_cast<pid_t>(stopped.pid), SIGKILL);
  CHECK(held.wait().error().code() == Code::service_down);
  CHECK(echo(*client, 2).error().code() == Code::service_down);
  CHECK(need(instance->server("echo")).state ==
        static_cast<std::uint32_t>(ps::ServerState::quarantined));
  CHECK(instance->wait_running().error().message().find("is in quarantine") != std::string::npos);
  CHECK(instance->logs().find("start it with: aiosctl restart echo") != std::string::npos);

  const auto revived = need(instance->restart("echo"));
  CHECK(revived != stopped.pid);
  CHECK(need(echo(*client, 3)) == 3);
  need(instance->wait_running());
}

TEST_CASE("A server in quarantine stays there when the supervisor is killed") {
  const auto instance = boot_echo("[instance]\nrestart = { count = 0 }\n" + echo_manifest);
  kill_echo(*instance);
  need(TestInstance::wait_until([&] {
    return need(instance->server("echo")).state ==
           static_cast<std::uint32_t>(ps::ServerState::quarantined);
  }));
  kill_supervisor(*instance);
  need(TestInstance::wait_until([&] {
    return need(instance->server("echo")).state ==
           static_cast<std::uint32_t>(ps::ServerState::quarantined);
  }));
  const auto client = echo_client(instance->visitor());
  CHECK(echo(*client, 1).error().code() == Code::service_down);
  need(instance->restart("echo"));
  CHECK(need(echo(*client, 1)) == 1);
}

TEST_CASE("A restart by an operator ends a server in order and counts for nothing") {
  const auto instance = boot_echo("[instance]\nrestart = { count = 0 }\n" + echo_manifest);
  const auto before = need(instance->server("echo"));
  for (int i = 0; i < 3; ++i) need(instance->restart("echo"));
  const auto after = need(instance->server("echo"));
  CHECK(after.epoch == before.epoch + 3);
  CHECK(after.last_end.view() == "exited with code 0");
  CHECK(instance->restart("nobody").error().code() == Code::not_found);
}

TEST_CASE("A manifest that is wrong ends the boot with one clear line") {
  std::string logs;
  CHECK(need(TestInstance::boot_failing("[server.a]\nbinray = \"x\"\n", logs)) != 0);
  CHECK(logs.find("test.toml:2: unknown key 'binray' in [server.a]; allowed are: binary") !=
        std::string::npos);
  CHECK(need(TestInstance::boot_failing("[server.a]\nbinary = \"x\"\nroutes = [\"b\"]\n"
                                        "[server.b]\nbinary = \"x\"\nroutes = [\"a\"]\n",
                                        logs)) != 0);
  CHECK(logs.find("test.toml:1: servers need one another in a circle: a -> b -> a") !=
        std::string::npos);
}

TEST_CASE("After a shutdown no process and no socket remains") {
  const auto instance = boot_echo(echo_manifest + R"(
[server.user]
binary = "aios-echo"
routes = ["echo"]
)");
  const auto client = echo_client(instance->visitor());
  CHECK(need(echo(*client, 1)) == 1);
  std::vector<pid_t> pids;
  for (const auto& process : need(instance->processes()))
    if (process.outside == 0) pids.push_back(static_cast<pid_t>(process.pid));
  CHECK(pids.size() == 3);
  CHECK(need(instance->shutdown()) == 0);
  for (const pid_t pid : pids) CHECK(process_gone(pid));
  CHECK(!std::filesystem::exists(instance->socket_path()));
  const auto late = echo(*client, 2);
  REQUIRE(!late.has_value());
  CHECK(late.error().code() == Code::peer_closed);
}

TEST_CASE("A hung server does not hold up the shutdown") {
  const auto instance = boot_echo("[instance]\nstop_timeout_ms = 100\n" + echo_manifest);
  const auto pid = static_cast<pid_t>(need(instance->server("echo")).pid);
  ::kill(pid, SIGSTOP);
  CHECK(need(instance->shutdown()) == 0);
  CHECK(process_gone(pid));
  CHECK(instance->logs().find("echo has not ended in time; killing it") != std::string::npos);
}

TEST_CASE("A supervisor that is killed during the shutdown does not stop it") {
  const auto instance = boot_echo();
  const auto pid = static_cast<pid_t>(need(instance->server("echo")).pid);
  ::kill(pid, SIGSTOP);
  const pid_t supervisor = supervisor_pid(*instance);
  ::kill(instance->kernel_pid(), SIGTERM);
  ::kill(supervisor, SIGKILL);
  CHECK(need(instance->shutdown()) == 0);
  CHECK(process_gone(pid));
}
