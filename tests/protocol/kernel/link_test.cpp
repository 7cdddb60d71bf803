// Ports and links over the wire.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "tests/protocol/kernel/harness.hpp"

using namespace aios;
using namespace aios::test;
namespace rights = wire::rights;
namespace signal = wire::signal;

namespace {

bool closed_bit(const Client& client, std::uint32_t index) {
  const auto* page = reinterpret_cast<const proto::KernelPage*>(client.kernel_page.data());
  return (page->closed[index / 64].load() >> index % 64 & 1) != 0;
}

bool rings(const Fd& bell) {
  pollfd event{bell.get(), POLLIN, 0};
  return ::poll(&event, 1, 20'000) == 1 && (event.revents & POLLIN) != 0;
}

struct Linked {
  Machine machine;
  Client server = Client::ready(machine.socket_path(), "server");
  wire::Handle port = publish_port(server, "echo");
  Client client = Client::ready(machine.socket_path(), "client");
  wire::Handle client_port = client.startup("echo");
};

}  // namespace

TEST_CASE("Two outside programs open a link and the bytes of one half are seen by the other") {
  Linked l;
  const OpenLink link = open_link(l.client, l.client_port, l.server, l.port);
  link.server_map.data()[proto::page_bytes] = std::byte{42};
  const auto seen = Mapping::map(link.client_sees_half, proto::half_bytes, Mapping::Access::read);
  REQUIRE(seen);
  CHECK(seen->data()[proto::page_bytes] == std::byte{42});
}

TEST_CASE("Doorbells of the two sides are separate open files that nobody can make block") {
  Linked l;
  const OpenLink link = open_link(l.client, l.client_port, l.server, l.port);
  char buffer[8192] = {};
  // The ringer fills the bell, and tries to take the reader's and the kernel's away.
  ::fcntl(link.server_ringer.get(), F_SETFL, 0);
  ::fcntl(link.server_ringer.get(), F_SETFL, O_NONBLOCK);
  while (::write(link.server_ringer.get(), buffer, sizeof buffer) > 0) {
  }
  CHECK(rings(link.client_bell));
  while (::read(link.client_bell.get(), buffer, sizeof buffer) > 0) {
  }
  CHECK(errno == EAGAIN);
  CHECK((::fcntl(link.client_bell.get(), F_GETFL) & O_ACCMODE) == O_RDONLY);
  CHECK(::write(link.client_ringer.get(), "x", 1) == 1);
  CHECK(rings(link.server_bell));
}

TEST_CASE("A peer that dies sets the closed bit and rings both doorbells of the survivor") {
  Linked l;
  const OpenLink link = open_link(l.client, l.client_port, l.server, l.port);
  CHECK_FALSE(closed_bit(l.server, link.server_index));
  l.client.hang_up();
  CHECK(rings(link.server_bell));
  CHECK(rings(l.server.bell));
  CHECK(closed_bit(l.server, link.server_index));
  l.server.await_signal(link.server, signal::closed);
  CHECK(l.server.call<wire::LinkReady>({link.server}).code == Code::peer_closed);
  wire::LinkSend::Request send{.link = link.server};
  CHECK(l.server.call<wire::LinkSend>(send).code == Code::peer_closed);
}

TEST_CASE("Closing the handle closes the link for the peer, and the index is used again clean") {
  Linked l;
  const OpenLink link = open_link(l.client, l.client_port, l.server, l.port);
  REQUIRE(l.server.call<wire::HandleClose>({link.server}).ok());
  l.client.await_signal(link.client, signal::closed);
  CHECK(closed_bit(l.client, link.client_index));
  REQUIRE(l.client.call<wire::HandleClose>({link.client}).ok());
  const OpenLink next = open_link(l.client, l.client_port, l.server, l.port);
  CHECK(next.client_index == link.client_index);
  CHECK_FALSE(closed_bit(l.client, next.client_index));
}

TEST_CASE("A port outlives its server: what waits there is taken by the next one") {
  Linked l;
  REQUIRE(l.server.call<wire::HandleKeep>({l.port, wire::Label::from("port")}).code == Code::ok);
  Client standby = Client::ready(l.machine.socket_path(), "server");
  const auto connected = l.client.call<wire::PortConnect>({l.client_port, 3});
  REQUIRE(connected.ok());
  REQUIRE(l.client.call<wire::LinkReady>({connected.reply.link}).reply.open == 0);
  l.server.hang_up();
  const wire::Handle port = standby.startup("port");
  REQUIRE(port != 0);
  standby.await_signal(port, signal::connect_pending);
  const auto accepted = standby.call<wire::PortAccept>({port});
  REQUIRE(accepted.ok());
  CHECK(accepted.reply.protocol_version == 3);
  CHECK(accepted.reply.peer_process_id == l.client.hello.process_id);
  CHECK(accepted.reply.peer_job_id == l.client.hello.job_id);
  CHECK(accepted.reply.peer_job_name.view() == "client");
  CHECK(accepted.reply.uid == ::geteuid());
}

TEST_CASE("A port that is down refuses connections with service_down until it is up again") {
  Linked l;
  const auto waiting = l.client.call<wire::PortConnect>({l.client_port, 1});
  REQUIRE(waiting.ok());
  REQUIRE(l.client.call<wire::LinkReady>({waiting.reply.link}).reply.open == 0);
  REQUIRE(l.server.call<wire::PortSetDown>({l.port, 1}).code == Code::ok);
  l.client.await_signal(waiting.reply.link, signal::closed);
  CHECK(l.client.call<wire::LinkReady>({waiting.reply.link}).code == Code::peer_closed);
  CHECK(l.client.call<wire::PortConnect>({l.client_port, 1}).code == Code::service_down);
  CHECK(l.client.call<wire::HandleInfo>({l.client_port}).reply.detail == 1);
  REQUIRE(l.server.call<wire::PortSetDown>({l.port, 0}).code == Code::ok);
  CHECK(l.client.call<wire::HandleInfo>({l.client_port}).reply.detail == 0);
  open_link(l.client, l.client_port, l.server, l.port);
}

TEST_CASE("Only who may manage a port takes it down, and says 0 or 1") {
  Linked l;
  CHECK(l.client.call<wire::PortSetDown>({l.client_port, 1}).code == Code::denied);
  CHECK(l.server.call<wire::PortSetDown>({l.port, 2}).code == Code::invalid_argument);
  CHECK(l.server.call<wire::PortSetDown>({l.server.hello.job, 1}).code == Code::wrong_type);
}

TEST_CASE("Accepting with nobody waiting is busy, without the right denied") {
  Linked l;
  CHECK(l.server.call<wire::PortAccept>({l.port}).code == Code::busy);
  CHECK(l.client.call<wire::PortAccept>({l.client_port}).code == Code::denied);
}

TEST_CASE("A link that is not open cannot carry handles yet") {
  Linked l;
  const auto connected = l.client.call<wire::PortConnect>({l.client_port, 1});
  REQUIRE(connected.ok());
  wire::LinkSend::Request send{.link = connected.reply.link};
  CHECK(l.client.call<wire::LinkSend>(send).code == Code::busy);
}

TEST_CASE("Links are listed with both sides, their state, and what was consumed") {
  Linked l;
  const auto root = l.client.startup("root");
  const OpenLink link = open_link(l.client, l.client_port, l.server, l.port);
  reinterpret_cast<proto::HalfHeader*>(link.server_map.data())->consumed.store(5);
  const auto listed = l.client.call<wire::LinkNext>({root, 0});
  REQUIRE(listed.ok());
  CHECK(listed.reply.state == 3);
  CHECK(listed.reply.client_process_id == l.client.hello.process_id);
  CHECK(listed.reply.server_process_id == l.server.hello.process_id);
  CHECK(listed.reply.port_name.view() == "echo");
  CHECK(listed.reply.sent_slots[0] == 5);
  CHECK(listed.reply.sent_slots[1] == 0);
  CHECK(l.client.call<wire::LinkNext>({root, listed.reply.link_id}).reply.link_id == 0);
  Client stranger = Client::ready(l.machine.socket_path(), "stranger");
  CHECK(stranger.call<wire::LinkNext>({stranger.hello.job, 0}).reply.link_id == 0);
}

TEST_CASE("A flood of connections ends at the job's quota and the port still serves others") {
  Linked l;
  Client flood = Client::ready(l.machine.socket_path(), "flood", {.links = 20});
  const wire::Handle port = flood.startup("echo");
  int made = 0;
  Code code = Code::ok;
  while (code == Code::ok && made < 100) {
    const auto connected = flood.call<wire::PortConnect>({port, 1});
    code = connected.code;
    if (code == Code::ok) {
      ++made;
      REQUIRE(flood.call<wire::LinkReady>({connected.reply.link}).ok());
    }
  }
  CHECK(code == Code::quota);
  CHECK(made == 20);
  flood.hang_up();
  const OpenLink link = open_link(l.client, l.client_port, l.server, l.port);
  CHECK(link.client != 0);
}

TEST_CASE("A published port is found under its label, and the later publication wins") {
  Linked l;
  const wire::Handle second = publish_port(l.server, "echo");
  Client late = Client::ready(l.machine.socket_path());
  const wire::Handle found = late.startup("echo");
  const auto connected = late.call<wire::PortConnect>({found, 1});
  REQUIRE(connected.ok());
  REQUIRE(late.call<wire::LinkReady>({connected.reply.link}).ok());
  l.server.await_signal(second, signal::connect_pending);
  const auto info = late.call<wire::HandleInfo>({found});
  CHECK(info.reply.use == (rights::info | rights::connect));
  CHECK(info.reply.grant == 0);
}
