// Handles over the wire: stale ones, missing rights, moving, keeping, sending.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include "tests/protocol/kernel/harness.hpp"

using namespace aios;
using namespace aios::test;
namespace rights = wire::rights;

namespace {

constexpr auto type_of(wire::ObjectType type) {
  return static_cast<std::uint32_t>(type);
}

wire::Handle make_port(Client& client) {
  const auto made = client.call<wire::PortCreate>({wire::Name::from("p")});
  REQUIRE(made.ok());
  return made.reply.port;
}

wire::Handle make_region(Client& client, std::uint64_t size_bytes = 4096) {
  const auto made = client.call<wire::RegionCreate>({size_bytes, wire::Name::from("r"), 0, 0});
  REQUIRE_MESSAGE(made.ok(), made.text);
  return made.reply.region;
}

struct Linked {
  Machine machine;
  Client server = Client::ready(machine.socket_path(), "server");
  wire::Handle port = publish_port(server, "echo");
  Client client = Client::ready(machine.socket_path(), "client");
  OpenLink link = open_link(client, client.startup("echo"), server, port);

  Answer<wire::LinkSend> send(std::vector<wire::LinkSend::Entry> entries) {
    wire::LinkSend::Request request{.link = link.client, .count = entries.size()};
    std::copy(entries.begin(), entries.end(), request.entries);
    return client.call<wire::LinkSend>(request);
  }
};

constexpr std::uint32_t all_region =
    rights::info | rights::duplicate | rights::send | rights::map_read | rights::map_write;

}  // namespace

TEST_CASE("A closed handle is bad_handle to every call that takes one") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const wire::Handle stale = make_port(client);
  REQUIRE(client.call<wire::HandleClose>({stale}).ok());
  CHECK(client.call<wire::HandleClose>({stale}).code == Code::bad_handle);
  CHECK(client.call<wire::HandleDuplicate>({stale, 0, 0}).code == Code::bad_handle);
  CHECK(client.call<wire::HandleKeep>({stale, wire::Label::from("l")}).code == Code::bad_handle);
  CHECK(client.call<wire::HandleInfo>({stale}).code == Code::bad_handle);
  CHECK(client.call<wire::JobCreate>({stale, wire::Name::from("n"), {}}).code == Code::bad_handle);
  CHECK(client.call<wire::JobKill>({stale}).code == Code::bad_handle);
  CHECK(client.call<wire::JobInfo>({stale}).code == Code::bad_handle);
  CHECK(client.call<wire::ProcessSignal>({stale, 9, 0}).code == Code::bad_handle);
  CHECK(client.call<wire::ProcessInfo>({stale}).code == Code::bad_handle);
  CHECK(client.call<wire::ProcessNext>({stale, 0}).code == Code::bad_handle);
  CHECK(client.call<wire::ProcessOpen>({stale, 0}).code == Code::bad_handle);
  CHECK(client.call<wire::RegionMap>({stale, 0, 0}).code == Code::bad_handle);
  CHECK(client.call<wire::RegionNext>({stale, 0}).code == Code::bad_handle);
  CHECK(client.call<wire::FileOpen>({stale}).code == Code::bad_handle);
  CHECK(client.call<wire::PortPublish>({stale, stale, wire::Label::from("l")}).code ==
        Code::bad_handle);
  CHECK(client.call<wire::PortSetDown>({stale, 1}).code == Code::bad_handle);
  CHECK(client.call<wire::PortConnect>({stale, 1}).code == Code::bad_handle);
  CHECK(client.call<wire::PortAccept>({stale}).code == Code::bad_handle);
  CHECK(client.call<wire::LinkReady>({stale}).code == Code::bad_handle);
  CHECK(client.call<wire::LinkSend>({.link = stale}).code == Code::bad_handle);
  CHECK(client.call<wire::LinkNext>({stale, 0}).code == Code::bad_handle);
  CHECK(client.call<wire::InstanceShutdown>({stale}).code == Code::bad_handle);
  wire::ProcessSpawn::Request spawn{
      .job = stale, .name = wire::Name::from("n"), .image = proto::Text<512>::from("/bin/true")};
  CHECK(client.call<wire::ProcessSpawn>(spawn).code == Code::bad_handle);
  wire::SpawnerCreate::Request create{
      .job = stale, .name = wire::Name::from("n"), .image = proto::Text<512>::from("/bin/true")};
  CHECK(client.call<wire::SpawnerCreate>(create).code == Code::bad_handle);
  wire::SpawnerSpawn::Request use{.spawner = stale, .tenant = stale, .name = wire::Name::from("n")};
  CHECK(client.call<wire::SpawnerSpawn>(use).code == Code::bad_handle);
}

TEST_CASE("A duplicate has the rights asked for and never more than the handle") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const wire::Handle region = make_region(client);
  const auto reader = client.call<wire::HandleDuplicate>({region, rights::map_read, 0});
  REQUIRE(reader.ok());
  const auto info = client.call<wire::HandleInfo>({reader.reply.handle});
  CHECK(info.reply.use == rights::map_read);
  CHECK(info.reply.grant == 0);
  CHECK(info.reply.type == type_of(wire::ObjectType::region));
  CHECK(info.reply.detail == 4096);
  CHECK(client.call<wire::HandleDuplicate>({reader.reply.handle, 0, 0}).code == Code::denied);
  CHECK(client.call<wire::HandleDuplicate>({region, rights::manage, 0}).code == Code::denied);
  CHECK(client.call<wire::RegionMap>({reader.reply.handle, 1, 0}).code == Code::denied);
  CHECK(client.call<wire::RegionMap>({reader.reply.handle, 2, 0}).code == Code::invalid_argument);
  const auto mapped = client.call<wire::RegionMap>({reader.reply.handle, 0, 0});
  REQUIRE(mapped.ok());
  REQUIRE(mapped.fds.size() == 1);
  CHECK(Mapping::map(mapped.fds[0], 4096, Mapping::Access::read));
  CHECK_FALSE(Mapping::map(mapped.fds[0], 4096, Mapping::Access::read_write));
}

TEST_CASE("Calls of another type's handle are wrong_type") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const wire::Handle port = make_port(client);
  CHECK(client.call<wire::RegionMap>({port, 0, 0}).code == Code::wrong_type);
  CHECK(client.call<wire::JobInfo>({port}).code == Code::wrong_type);
  CHECK(client.call<wire::LinkReady>({port}).code == Code::wrong_type);
  CHECK(client.call<wire::PortConnect>({client.hello.job, 1}).code == Code::wrong_type);
}

TEST_CASE("An outside program may look at its job and the root, but not act or publish with less") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const auto job = client.call<wire::JobInfo>({client.hello.job});
  REQUIRE(job.ok());
  CHECK(job.reply.name.view() == "mine");
  CHECK(job.reply.used.processes == 1);
  const auto port = make_port(client);
  CHECK(client.call<wire::PortPublish>({client.hello.job, port, wire::Label::from("x")}).code ==
        Code::denied);
  CHECK(client.call<wire::InstanceShutdown>({client.hello.job}).code == Code::denied);
  wire::SpawnerCreate::Request create{.job = client.hello.job,
                                      .name = wire::Name::from("n"),
                                      .image = proto::Text<512>::from("/bin/true")};
  CHECK(client.call<wire::SpawnerCreate>(create).code == Code::denied);
  CHECK(client.call<wire::JobKill>({client.startup("root")}).code == Code::invalid_argument);
}

TEST_CASE("A handle is moved or duplicated to the peer with exactly the final rights") {
  Linked l;
  const wire::Handle moved = make_region(l.client);
  const wire::Handle copied = make_region(l.client);
  const auto region = type_of(wire::ObjectType::region);
  const auto sent = l.send({{moved, region, rights::info, 0, 1},
                            {copied, region, rights::map_read, rights::map_read, 0}});
  REQUIRE_MESSAGE(sent.ok(), sent.text);
  CHECK(l.client.call<wire::HandleInfo>({moved}).code == Code::bad_handle);
  CHECK(l.client.call<wire::HandleInfo>({copied}).ok());
  const auto first = l.server.call<wire::HandleInfo>({sent.reply.handles[0]});
  const auto second = l.server.call<wire::HandleInfo>({sent.reply.handles[1]});
  CHECK(first.reply.use == rights::info);
  CHECK(first.reply.grant == 0);
  CHECK(second.reply.use == rights::map_read);
  CHECK(second.reply.grant == rights::map_read);
  CHECK(l.server.call<wire::RegionMap>({sent.reply.handles[0], 0, 0}).code == Code::denied);
  CHECK(l.server.call<wire::RegionMap>({sent.reply.handles[1], 0, 0}).ok());
}

TEST_CASE("Sending is all or nothing") {
  Linked l;
  const wire::Handle good = make_region(l.client);
  const wire::Handle other = make_region(l.client);
  const auto region = type_of(wire::ObjectType::region);
  const auto port = type_of(wire::ObjectType::port);
  const auto used = [&] {
    return l.server.call<wire::JobInfo>({l.server.hello.job}).reply.used.handles;
  };
  const auto before = used();
  const wire::LinkSend::Entry fine{good, region, all_region, all_region, 1};
  const wire::Handle weak =
      l.client.call<wire::HandleDuplicate>({good, rights::info, rights::info}).reply.handle;
  CHECK(l.send({fine, {0, region, 0, 0, 0}}).code == Code::bad_handle);
  CHECK(l.send({fine, {other, port, 0, 0, 0}}).code == Code::wrong_type);
  CHECK(l.send({fine, {other, region, rights::manage, 0, 0}}).code == Code::denied);
  CHECK(l.send({fine, {weak, region, 0, 0, 0}}).code == Code::denied);
  CHECK(l.send({fine, fine}).code == Code::invalid_argument);
  CHECK(l.send({fine, {other, region, 0, 0, 2}}).code == Code::invalid_argument);
  CHECK(l.send({{l.link.client, type_of(wire::ObjectType::link), 0, 0, 0}}).code == Code::denied);
  wire::LinkSend::Request many{.link = l.link.client, .count = 17};
  CHECK(l.client.call<wire::LinkSend>(many).code == Code::invalid_argument);
  CHECK(used() == before);
  CHECK(l.client.call<wire::HandleInfo>({good}).ok());
}

TEST_CASE("A tenant that floods a server's table gets quota, and another tenant is still served") {
  Linked l;
  const wire::Handle port = make_port(l.client);
  wire::LinkSend::Request request{.link = l.link.client, .count = 16};
  for (auto& entry : request.entries)
    entry = {port, type_of(wire::ObjectType::port), rights::connect, 0, 0};
  Code code = Code::ok;
  int rounds = 0;
  for (; code == Code::ok && rounds < 1000; ++rounds)
    code = l.client.call<wire::LinkSend>(request).code;
  CHECK(code == Code::quota);
  CHECK(rounds > 10);
  CHECK(l.server.call<wire::PortCreate>({wire::Name::from("own")}).ok());
}

TEST_CASE("A handle that its receiver never named goes when it closes the link, others stay") {
  Linked l;
  const auto region = type_of(wire::ObjectType::region);
  const wire::Handle own = make_region(l.client);
  const auto before = l.server.call<wire::JobInfo>({l.server.hello.job}).reply.used.handles;
  std::vector<wire::Handle> sent;
  for (int i = 0; i < 3; ++i)
    sent.push_back(l.send({{own, region, rights::map_read, 0, 0}}).reply.handles[0]);
  REQUIRE(l.server.call<wire::HandleInfo>({sent[1]}).ok());
  l.client.hang_up();
  l.server.await_signal(l.link.server, wire::signal::closed);
  // Until it closes its own end the receiver may still read a message that names them.
  CHECK(l.server.call<wire::HandleInfo>({sent[2]}).ok());
  REQUIRE(l.server.call<wire::HandleClose>({l.link.server}).ok());
  CHECK(l.server.call<wire::HandleInfo>({sent[0]}).code == Code::bad_handle);
  CHECK(l.server.call<wire::HandleInfo>({sent[1]}).ok());
  CHECK(l.server.call<wire::HandleInfo>({sent[2]}).ok());
  // Two of three, less the link.
  CHECK(l.server.call<wire::JobInfo>({l.server.hello.job}).reply.used.handles == before + 1);
}

TEST_CASE("A handle can be sent by right of granting without the right to use") {
  Linked l;
  const auto region = type_of(wire::ObjectType::region);
  const wire::Handle own = make_region(l.client);
  const auto sent = l.send({{own, region, rights::send, rights::map_read, 0}});
  REQUIRE(sent.ok());
  const wire::Handle broker = sent.reply.handles[0];
  CHECK(l.server.call<wire::RegionMap>({broker, 0, 0}).code == Code::denied);
  wire::LinkSend::Request back{.link = l.link.server, .count = 1};
  back.entries[0] = {broker, region, rights::map_read, 0, 1};
  const auto returned = l.server.call<wire::LinkSend>(back);
  REQUIRE(returned.ok());
  CHECK(l.client.call<wire::RegionMap>({returned.reply.handles[0], 0, 0}).ok());
}

TEST_CASE("What is kept under a label is found by the next process of the job, a link never") {
  Linked l;
  // Another process of the job, which lives on in between.
  Client holder = Client::ready(l.machine.socket_path());
  Client first = Client::ready(l.machine.socket_path());
  const wire::Handle region = make_region(first);
  REQUIRE(first.call<wire::HandleKeep>({region, wire::Label::from("mine")}).ok());
  first.hang_up();
  Client second = Client::ready(l.machine.socket_path());
  const wire::Handle found = second.startup("mine");
  REQUIRE(found != 0);
  CHECK(second.call<wire::RegionMap>({found, 1, 0}).ok());
  REQUIRE(second.call<wire::HandleKeep>({0, wire::Label::from("mine")}).ok());
  CHECK(second.call<wire::HandleKeep>({0, wire::Label::from("mine")}).code == Code::not_found);
  CHECK(Client::ready(l.machine.socket_path()).startup("mine") == 0);
  CHECK(l.client.call<wire::HandleKeep>({l.link.client, wire::Label::from("l")}).code ==
        Code::denied);
  CHECK(second.call<wire::HandleKeep>({found, {}}).code == Code::invalid_argument);
  CHECK(second.call<wire::HandleKeep>({second.hello.job, wire::Label::from("j")}).code ==
        Code::denied);
}

TEST_CASE("More startup handles than a page holds are all listed") {
  Machine machine;
  Client first = Client::ready(machine.socket_path());
  const wire::Handle port = make_port(first);
  for (int i = 0; i < 20; ++i)
    REQUIRE(
        first.call<wire::HandleKeep>({port, wire::Label::from("label" + std::to_string(i))}).ok());
  Client second = Client::ready(machine.socket_path());
  for (int i = 0; i < 20; ++i) CHECK(second.startup("label" + std::to_string(i)) != 0);
  CHECK(second.startup("root") != 0);
  CHECK(second.call<wire::Startup>({~0ull}).reply.count == 0);
}

TEST_CASE("Files lent on a channel are seen with MSG_PEEK by every reader of the job") {
  Machine machine;
  Client server = Client::ready(machine.socket_path(), "other");
  const wire::Handle port = publish_port(server, "echo");
  Client lender = Client::ready(machine.socket_path(), "tenant");
  auto made = lender.call<wire::FileCreate>({});
  REQUIRE(made.ok());
  REQUIRE(made.fds.size() == 1);
  const int lent[] = {0, 1};
  const std::byte description[3] = {};
  REQUIRE(send_packet(made.fds[0].get(), description, lent, 0));
  CHECK(lender.call<wire::FileOpen>({made.reply.file}).code == Code::denied);
  Client peer = Client::ready(machine.socket_path(), "tenant");
  const OpenLink to_peer = open_link(peer, peer.startup("echo"), server, port);
  const OpenLink own = open_link(lender, lender.startup("echo"), server, port);
  // The lender's handle grants map_read; a process of another job may hold it but not open it.
  wire::LinkSend::Request give{.link = own.client, .count = 1};
  give.entries[0] = {made.reply.file, static_cast<std::uint32_t>(wire::ObjectType::file),
                     rights::map_read | rights::send, rights::map_read, 0};
  const auto at_server = lender.call<wire::LinkSend>(give);
  REQUIRE(at_server.ok());
  CHECK(server.call<wire::FileOpen>({at_server.reply.handles[0]}).code == Code::denied);
  wire::LinkSend::Request pass{.link = to_peer.server, .count = 1};
  pass.entries[0] = {at_server.reply.handles[0], static_cast<std::uint32_t>(wire::ObjectType::file),
                     rights::map_read, 0, 0};
  const auto at_peer = server.call<wire::LinkSend>(pass);
  REQUIRE(at_peer.ok());
  for (int reading = 0; reading < 2; ++reading) {
    auto opened = peer.call<wire::FileOpen>({at_peer.reply.handles[0]});
    REQUIRE(opened.ok());
    REQUIRE(opened.fds.size() == 1);
    ReceivedPacket packet;
    std::byte body[16];
    REQUIRE(receive_packet(opened.fds[0].get(), body, MSG_PEEK, packet));
    CHECK(packet.bytes == 3);
    CHECK(packet.fds.size() == 2);
  }
}
