// Children, jobs and spawners over the wire.
#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>

#include "tests/protocol/kernel/harness.hpp"

using namespace aios;
using namespace aios::test;
namespace rights = wire::rights;

namespace {

wire::ProcessSpawn::Request request_for(wire::Handle job, const char* name, const char* mode,
                                        wire::Profile profile = wire::Profile::open) {
  wire::ProcessSpawn::Request request{.job = job,
                                      .profile = static_cast<std::uint32_t>(profile),
                                      .handle_count = 0,
                                      .name = wire::Name::from(name),
                                      .image = proto::Text<512>::from(child_binary())};
  std::strcpy(request.arguments, mode);
  return request;
}

wire::ProcessRecord await_exit(Client& client, wire::Handle process) {
  client.await_signal(process, wire::signal::exited);
  const auto info = client.call<wire::ProcessInfo>({process});
  REQUIRE(info.ok());
  CHECK(info.reply.exited == 1);
  return info.reply;
}

/// Waits, without a signal for it, for the end of a pid that may be nobody's child here.
bool is_gone(pid_t pid) {
  for (;;) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    if (!std::getline(stat, line) || line.find(") Z ") != std::string::npos) return true;
    ::poll(nullptr, 0, 1);
  }
}

std::string await_report(Machine& machine, const std::string& name) {
  std::string text;
  while (text.find("done\n") == std::string::npos) {
    ::poll(nullptr, 0, 1);
    text = machine.log(name);
  }
  return text;
}

/// Who uid 0 of the process's user namespace is in ours.
unsigned uid_outside(std::uint64_t pid) {
  std::ifstream map("/proc/" + std::to_string(pid) + "/uid_map");
  unsigned inside = 1;
  unsigned outside = ~0u;
  map >> inside >> outside;
  return inside == 0 ? outside : ~0u;
}

}  // namespace

TEST_CASE("A child's exit is told with its code or its signal") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const auto job = client.hello.job;
  const auto exits = client.call<wire::ProcessSpawn>(request_for(job, "a", "exit-7"));
  REQUIRE_MESSAGE(exits.ok(), exits.text);
  auto record = await_exit(client, exits.reply.process);
  CHECK(record.exit_code == 7);
  CHECK(record.exit_signalled == 0);
  const auto waits = client.call<wire::ProcessSpawn>(request_for(job, "b", "wait"));
  REQUIRE(client.call<wire::ProcessSignal>({waits.reply.process, SIGTERM, 0}).ok());
  record = await_exit(client, waits.reply.process);
  CHECK(record.exit_code == SIGTERM);
  CHECK(record.exit_signalled == 1);
  CHECK(client.call<wire::ProcessSignal>({waits.reply.process, SIGTERM, 0}).code ==
        Code::not_found);
}

TEST_CASE("Only some signals can be sent, and an outside program can only be cut off") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  Client victim = Client::ready(machine.socket_path(), "mine");
  const auto waits = client.call<wire::ProcessSpawn>(request_for(client.hello.job, "b", "wait"));
  CHECK(client.call<wire::ProcessSignal>({waits.reply.process, SIGUSR1, 0}).code ==
        Code::invalid_argument);
  const auto handle =
      client.call<wire::ProcessOpen>({client.hello.job, victim.hello.process_id}).reply.process;
  CHECK(client.call<wire::ProcessSignal>({handle, SIGTERM, 0}).code == Code::not_supported);
  REQUIRE(client.call<wire::ProcessSignal>({handle, SIGKILL, 0}).ok());
  CHECK(victim.is_closed());
}

TEST_CASE("A child that closes its kernel socket is killed") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const auto child = client.call<wire::ProcessSpawn>(request_for(client.hello.job, "a", "hang-up"));
  const auto record = await_exit(client, child.reply.process);
  CHECK(record.exit_code == SIGKILL);
  CHECK(record.exit_signalled == 1);
}

TEST_CASE("A child starts with a clean slate: descriptors, limits, group, name and arguments") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  auto request = request_for(client.hello.job, "reporter", "report");
  std::memcpy(request.arguments, "report\0one\0two\0", 15);
  const auto child = client.call<wire::ProcessSpawn>(request);
  REQUIRE(child.ok());
  const std::string text = await_report(machine, "reporter");
  CHECK(text.find("pgid-own 1") != std::string::npos);
  CHECK(text.find("no-new-privs 1") != std::string::npos);
  CHECK(text.find("death-signal 9") != std::string::npos);
  CHECK(text.find("core 0") != std::string::npos);
  CHECK(text.find("stray-descriptors 0") != std::string::npos);
  CHECK(text.find("name reporter") != std::string::npos);
  CHECK(text.find("argument one\nargument two\n") != std::string::npos);
}

TEST_CASE("A child whose profile opens files of the instance's is the instance's user outside") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  if (client.call<wire::InstanceInfo>({}).reply.user_namespaces == 0) return;
  for (const auto profile : {wire::Profile::storage, wire::Profile::supervisor}) {
    const auto child =
        client.call<wire::ProcessSpawn>(request_for(client.hello.job, "keeper", "wait", profile));
    REQUIRE_MESSAGE(child.ok(), child.text);
    CHECK(client.call<wire::ProcessInfo>({child.reply.process}).reply.namespaces == 1);
    CHECK(uid_outside(child.reply.pid) == ::geteuid());
  }
}

TEST_CASE("A child learns its profile, and what it says of its sandbox is in its record") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const auto child = client.call<wire::ProcessSpawn>(
      request_for(client.hello.job, "confined", "report", wire::Profile::driver));
  REQUIRE_MESSAGE(child.ok(), child.text);
  CHECK(await_report(machine, "confined").find("profile driver") != std::string::npos);
  const auto word = client.call<wire::ProcessInfo>({child.reply.process}).reply.sandbox;
  CHECK(word == proto::sandbox::Confined{proto::sandbox::Profile::driver, 5, 7}.word());
}

TEST_CASE("A context is process 1 of its namespace, without network and without privileges") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  if (client.call<wire::InstanceInfo>({}).reply.user_namespaces == 0) return;
  const auto child = client.call<wire::ProcessSpawn>(
      request_for(client.hello.job, "inside", "report", wire::Profile::context));
  REQUIRE_MESSAGE(child.ok(), child.text);
  const std::string text = await_report(machine, "inside");
  CHECK(text.find("pid 1 uid 0 ") != std::string::npos);
  CHECK(text.find("interfaces-up 0") != std::string::npos);
  CHECK(text.find("death-signal 9") != std::string::npos);
  const auto info = client.call<wire::ProcessInfo>({child.reply.process});
  CHECK(info.reply.namespaces == 1);
  CHECK(uid_outside(child.reply.pid) == (::geteuid() == 0 ? 65534u : ::geteuid()));
  REQUIRE(client.call<wire::ProcessSignal>({child.reply.process, SIGKILL, 0}).ok());
  await_exit(client, child.reply.process);
}

TEST_CASE("Requests to spawn nonsense are refused and leave nothing behind") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const auto job = client.hello.job;
  const auto refused = [&](auto change) {
    auto request = request_for(job, "a", "wait");
    change(request);
    return client.call<wire::ProcessSpawn>(request).code;
  };
  using Request = wire::ProcessSpawn::Request&;
  const auto invalid = Code::invalid_argument;
  CHECK(refused([](Request r) { r.name = wire::Name::from("a/b"); }) == invalid);
  CHECK(refused([](Request r) { r.name = wire::Name::from(".."); }) == invalid);
  CHECK(refused([](Request r) { std::memset(&r.name, 'a', sizeof r.name); }) == invalid);
  CHECK(refused([](Request r) { r.image = proto::Text<512>::from("relative"); }) == invalid);
  CHECK(refused([](Request r) { std::memset(&r.image, '/', sizeof r.image); }) == invalid);
  CHECK(refused([](Request r) { r.profile = proto::sandbox::profile_names.size(); }) == invalid);
  CHECK(refused([](Request r) { r.handle_count = 17; }) == invalid);
  CHECK(refused([](Request r) { std::memset(r.arguments, 'a', sizeof r.arguments); }) == invalid);
  CHECK(refused([](Request r) { std::memcpy(r.arguments, "a\0\0b", 5); }) == invalid);
  CHECK(refused([](Request r) {
          for (std::size_t i = 0; i < 34; ++i) r.arguments[i] = i % 2 == 0 ? 'a' : '\0';
        }) == invalid);
  CHECK(refused([](Request r) { r.image = proto::Text<512>::from("/"); }) == invalid);
  CHECK(refused([](Request r) { r.image = proto::Text<512>::from("/nowhere/at/all"); }) ==
        Code::not_found);
  CHECK(refused([](Request r) { r.image = proto::Text<512>::from("/etc/passwd"); }) ==
        Code::denied);
  CHECK(refused([](Request r) { r.handle_count = 1; }) == invalid);  // no label
  CHECK(refused([](Request r) {
          r.handle_count = 1;
          r.handles[0].label = wire::Label::from("x");
        }) == Code::bad_handle);
  CHECK(client.call<wire::JobInfo>({job}).reply.used.processes == 1);
}

TEST_CASE("An image that cannot be executed says so in its log and exits with 127") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const std::string path = machine.state() / "not-a-program";
  std::ofstream(path) << "this is no program";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  auto request = request_for(client.hello.job, "broken", "");
  request.image = proto::Text<512>::from(path);
  const auto child = client.call<wire::ProcessSpawn>(request);
  REQUIRE(child.ok());
  CHECK(await_exit(client, child.reply.process).exit_code == 127);
  CHECK(machine.log("broken").find("exec: ENOEXEC") != std::string::npos);
}

TEST_CASE("A spawned process gets the handles given to it, and its epoch grows by name") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const auto port = client.call<wire::PortCreate>({wire::Name::from("p")}).reply.port;
  auto request = request_for(client.hello.job, "child", "wait");
  request.handle_count = 1;
  request.handles[0] = {wire::Label::from("port"), port, rights::accept, 0};
  const auto first = client.call<wire::ProcessSpawn>(request);
  REQUIRE_MESSAGE(first.ok(), first.text);
  const auto record = client.call<wire::ProcessInfo>({first.reply.process}).reply;
  CHECK(record.epoch == 1);
  CHECK(record.handles >= 1);
  CHECK(record.name.view() == "child");
  CHECK(record.job_name.view() == "mine");
  const auto second = client.call<wire::ProcessSpawn>(request);
  CHECK(client.call<wire::ProcessInfo>({second.reply.process}).reply.epoch == 2);
  request.handles[0].use = rights::spawn;
  CHECK(client.call<wire::ProcessSpawn>(request).code == Code::denied);
}

TEST_CASE("Killing a job kills what is in it and below, raises empty, and refuses new processes") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const auto parent =
      client.call<wire::JobCreate>({client.hello.job, wire::Name::from("parent"), {}}).reply.job;
  const auto below =
      client.call<wire::JobCreate>({parent, wire::Name::from("below"), {}}).reply.job;
  const auto child = client.call<wire::ProcessSpawn>(request_for(below, "deaf", "deaf"));
  REQUIRE(child.ok());
  REQUIRE(client.call<wire::JobKill>({parent}).ok());
  CHECK(await_exit(client, child.reply.process).exit_code == SIGKILL);
  client.await_signal(parent, wire::signal::empty);
  CHECK(client.call<wire::JobInfo>({below}).reply.killed == 1);
  CHECK(client.call<wire::ProcessSpawn>(request_for(below, "x", "wait")).code == Code::denied);
  CHECK(client.call<wire::JobCreate>({parent, wire::Name::from("x"), {}}).code == Code::denied);
}

TEST_CASE("A job's quota of processes stops a flood of spawns and of attachments") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine", {.processes = 3});
  const auto spawn = [&] {
    return client.call<wire::ProcessSpawn>(request_for(client.hello.job, "w", "wait")).code;
  };
  CHECK(spawn() == Code::ok);
  CHECK(spawn() == Code::ok);
  CHECK(spawn() == Code::quota);
  Client attached(machine.socket_path());
  const wire::Hello::Request hello{wire::abi_version, 0, wire::Name::from("mine"), {}};
  CHECK(attached.call<wire::Hello>(hello).code == Code::quota);
  CHECK(attached.call<wire::Hello>({wire::abi_version, 0, wire::Name::from("other"), {}}).ok());
}

TEST_CASE("A spawner starts its image in a job of the tenant that shows act, and nobody else's") {
  Machine machine;
  Client server = Client::ready(machine.socket_path(), "server");
  const wire::Handle port = publish_port(server, "work");
  wire::SpawnerCreate::Request create{.job = server.startup("root"),
                                      .profile = 0,
                                      .name = wire::Name::from("cpu"),
                                      .image = proto::Text<512>::from(child_binary())};
  const auto spawner = server.call<wire::SpawnerCreate>(create);
  REQUIRE_MESSAGE(spawner.ok(), spawner.text);
  Client tenant = Client::ready(machine.socket_path(), "tenant", {.processes = 2});
  const OpenLink link = open_link(tenant, tenant.startup("work"), server, port);
  wire::LinkSend::Request show{.link = link.client, .count = 1};
  show.entries[0] = {tenant.hello.job, static_cast<std::uint32_t>(wire::ObjectType::job),
                     rights::act | rights::info, 0, 0};
  const auto shown = tenant.call<wire::LinkSend>(show);
  REQUIRE_MESSAGE(shown.ok(), shown.text);
  wire::SpawnerSpawn::Request use{.spawner = spawner.reply.spawner,
                                  .tenant = shown.reply.handles[0],
                                  .name = wire::Name::from("context")};
  std::strcpy(use.arguments, "wait");
  const auto context = server.call<wire::SpawnerSpawn>(use);
  REQUIRE_MESSAGE(context.ok(), context.text);
  const auto record = server.call<wire::ProcessInfo>({context.reply.process}).reply;
  CHECK(record.job_name.view() == ":contexts");
  CHECK(tenant.call<wire::JobInfo>({tenant.hello.job}).reply.used.processes == 2);
  CHECK(server.call<wire::SpawnerSpawn>(use).code == Code::quota);
  use.tenant = server.hello.job;
  CHECK(server.call<wire::SpawnerSpawn>(use).code == Code::denied);
  // The tenant's last outside program goes, and its contexts with it.
  tenant.hang_up();
  await_exit(server, context.reply.process);
  use.tenant = shown.reply.handles[0];
  CHECK(server.call<wire::SpawnerSpawn>(use).code == Code::denied);
}

TEST_CASE("Processes are listed by id within a job and below, and opened only there") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  Client other = Client::ready(machine.socket_path(), "other");
  const auto child = client.call<wire::ProcessSpawn>(request_for(client.hello.job, "w", "wait"));
  std::vector<std::uint64_t> ids;
  for (std::uint64_t after = 0;;) {
    after = client.call<wire::ProcessNext>({client.hello.job, after}).reply.process_id;
    if (after == 0) break;
    ids.push_back(after);
  }
  CHECK(ids == std::vector{client.hello.process_id, child.reply.process_id});
  CHECK(client.call<wire::ProcessOpen>({client.hello.job, other.hello.process_id}).code ==
        Code::not_found);
  const auto opened =
      client.call<wire::ProcessOpen>({client.startup("root"), other.hello.process_id});
  REQUIRE(opened.ok());
  CHECK(client.call<wire::ProcessInfo>({opened.reply.process}).reply.outside == 1);
}

TEST_CASE("What a killed server left in its process group is killed with it") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  auto request = request_for(client.hello.job, "forker", "fork");
  const auto child = client.call<wire::ProcessSpawn>(request);
  REQUIRE(child.ok());
  const std::string text = await_report(machine, "forker");
  const pid_t grandchild = std::stoi(text.substr(text.find("grandchild ") + 11));
  REQUIRE(client.call<wire::ProcessSignal>({child.reply.process, SIGKILL, 0}).ok());
  await_exit(client, child.reply.process);
  CHECK(is_gone(grandchild));
}

TEST_CASE("A log that has grown too large is rotated when the next process starts") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const auto path = machine.state() / "logs" / "chatty.log";
  std::ofstream(path) << std::string(2u << 20, 'x');
  const auto child =
      client.call<wire::ProcessSpawn>(request_for(client.hello.job, "chatty", "wait"));
  REQUIRE(child.ok());
  CHECK(std::filesystem::file_size(path) < 1024);
  CHECK(std::filesystem::file_size(path.string() + ".1") == 2u << 20);
}
