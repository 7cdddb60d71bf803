#include "kernel/link.hpp"

#include <unistd.h>

#include "kernel/limits.hpp"
#include "tests/unit/kernel/fixture.hpp"

using namespace aios;
using namespace aios::kernel;

namespace {

struct Pair {
  World world;
  std::shared_ptr<Job> client_job = world.job("client");
  std::shared_ptr<Process> client = world.process("client", client_job);
  std::shared_ptr<Process> server = world.process("server", world.job("server"));
  std::shared_ptr<Port> port = world.port("port");
  Handle server_port = *server->handles.install(Reference(port, rights::all, rights::all));

  Handle connect() {
    auto end = Link::connect(world.registry, *client, port, 1);
    REQUIRE(end);
    return *client->handles.install(Reference(std::move(*end), LinkEnd::handle_rights, 0));
  }
  Handle accept() {
    auto end = port->front()->accept(*server);
    REQUIRE(end);
    return *server->handles.install(Reference(std::move(*end), LinkEnd::handle_rights, 0));
  }
  Link& link(Process& process, Handle handle) {
    return (*process.handles.get<LinkEnd>(handle, 0))->link();
  }
  bool closed_bit(Process& process, std::uint32_t index) {
    const Mapping page =
        *Mapping::map(process.kernel_page().read_only(), proto::page_bytes, Mapping::Access::read);
    const auto* kernel_page = reinterpret_cast<const proto::KernelPage*>(page.data());
    return (kernel_page->closed[index / 64].load() >> index % 64 & 1) != 0;
  }
};

bool rings(const sys::Doorbell& bell) {
  const Fd reader = *bell.reader();
  char byte = 0;
  return ::read(reader.get(), &byte, 1) == 1;
}

}  // namespace

TEST_CASE("A port that goes down closes what waits, and takes nothing more until it is up again") {
  Pair p;
  const Handle waiting = p.connect();
  Link& waits = p.link(*p.client, waiting);
  REQUIRE(waits.side_ready(Link::client));
  const Handle connecting = p.connect();
  Link& late = p.link(*p.client, connecting);
  CHECK(p.port->detail() == 0);
  p.port->set_down(true);
  CHECK(p.port->detail() == 1);
  CHECK(waits.state() == Link::State::closed);
  CHECK(p.port->front() == nullptr);
  CHECK(late.side_ready(Link::client).error().code() == Code::peer_closed);
  p.port->set_down(false);
  const Handle again = p.connect();
  REQUIRE(p.link(*p.client, again).side_ready(Link::client));
  CHECK(p.port->front() != nullptr);
}

TEST_CASE("A link goes from connecting through waiting and accepted to open") {
  Pair p;
  const Handle client = p.connect();
  Link& link = p.link(*p.client, client);
  CHECK(link.state() == Link::State::connecting);
  CHECK(p.port->front() == nullptr);
  REQUIRE(link.side_ready(Link::client));
  CHECK(link.state() == Link::State::waiting);
  CHECK(signals_of(*p.server, p.server_port) == signal::connect_pending);
  const Handle server = p.accept();
  CHECK(link.state() == Link::State::accepted);
  CHECK(p.port->front() == nullptr);
  CHECK(signals_of(*p.client, client) == 0);
  REQUIRE(link.side_ready(Link::server));
  CHECK(link.state() == Link::State::open);
  CHECK(signals_of(*p.client, client) == signal::established);
  CHECK(rings(link.side(Link::client).bell));
  CHECK((*p.client->handles.get<LinkEnd>(client, 0))->peer().process_id == p.server->id());
  CHECK((*p.server->handles.get<LinkEnd>(server, 0))->peer().process_id == p.client->id());
}

TEST_CASE("Ready twice changes nothing") {
  Pair p;
  const Handle client = p.connect();
  Link& link = p.link(*p.client, client);
  REQUIRE(link.side_ready(Link::client));
  REQUIRE(link.side_ready(Link::client));
  CHECK(link.state() == Link::State::waiting);
}

TEST_CASE("Closing one handle tells the other side by bit, signal and doorbell") {
  Pair p;
  const Handle client = p.connect();
  Link& link = p.link(*p.client, client);
  REQUIRE(link.side_ready(Link::client));
  const Handle server = p.accept();
  const std::uint32_t index = (*p.server->handles.get<LinkEnd>(server, 0))->own().index;
  REQUIRE(link.side_ready(Link::server));
  CHECK_FALSE(p.closed_bit(*p.server, index));
  REQUIRE(p.client->handles.close(client));
  CHECK(p.closed_bit(*p.server, index));
  CHECK(signals_of(*p.server, server) == signal::closed);
  CHECK(rings(p.link(*p.server, server).side(Link::server).bell));
  CHECK(rings(p.server->kernel_bell()));
  CHECK(code_of(p.link(*p.server, server).side_ready(Link::server)) == Code::peer_closed);
  CHECK(p.client->link_count() == 0);
  CHECK(p.server->link_count() == 1);
}

TEST_CASE("The death of either side closes an accepted link") {
  for (const bool client_dies : {true, false}) {
    Pair p;
    const Handle client = p.connect();
    REQUIRE(p.link(*p.client, client).side_ready(Link::client));
    const Handle server = p.accept();
    (client_dies ? p.client : p.server)->die({});
    Process& survivor = client_dies ? *p.server : *p.client;
    CHECK((signals_of(survivor, client_dies ? server : client) & signal::closed) != 0);
  }
}

TEST_CASE("A waiting link survives its server and is accepted by the next one") {
  Pair p;
  const Handle client = p.connect();
  Link& link = p.link(*p.client, client);
  REQUIRE(link.side_ready(Link::client));
  p.server->die({});
  CHECK(link.state() == Link::State::waiting);
  p.server = p.world.process("server again");
  p.server_port = *p.server->handles.install(Reference(p.port, rights::all, rights::all));
  CHECK(signals_of(*p.server, p.server_port) == signal::connect_pending);
  p.accept();
  REQUIRE(link.side_ready(Link::server));
  CHECK(signals_of(*p.client, client) == signal::established);
}

TEST_CASE("A client that dies while it waits leaves the port's queue") {
  Pair p;
  REQUIRE(p.link(*p.client, p.connect()).side_ready(Link::client));
  p.client->die({});
  CHECK(p.port->front() == nullptr);
  CHECK(p.world.registry.links.empty());
}

TEST_CASE("The end of a port closes what waits at it and what comes too late") {
  Pair p;
  const Handle waiting = p.connect();
  REQUIRE(p.link(*p.client, waiting).side_ready(Link::client));
  const Handle late = p.connect();
  REQUIRE(p.server->handles.close(p.server_port));
  p.port.reset();
  CHECK(signals_of(*p.client, waiting) == signal::closed);
  CHECK(code_of(p.link(*p.client, late).side_ready(Link::client)) == Code::peer_closed);
  CHECK(p.link(*p.client, late).state() == Link::State::closed);
}

TEST_CASE("Links are charged to each side's job and released with its handle") {
  Pair p;
  const auto pages = p.client_job->used().memory_bytes;
  const Handle client = p.connect();
  CHECK(p.client_job->used().links == 1);
  CHECK(p.client_job->used().memory_bytes == pages + proto::half_bytes);
  REQUIRE(p.link(*p.client, client).side_ready(Link::client));
  const Handle server = p.accept();
  CHECK(p.world.root->used().links == 2);
  REQUIRE(p.server->handles.close(server));
  CHECK(p.world.root->used().links == 1);
  CHECK(p.client_job->used().memory_bytes == pages);
  REQUIRE(p.client->handles.close(client));
  CHECK(p.world.root->used().links == 0);
  CHECK(p.world.registry.links.empty());
}

TEST_CASE("A process has no more links than its kernel page has bits") {
  Pair p;
  std::vector<std::shared_ptr<LinkEnd>> ends;
  for (std::uint32_t i = 0; i < limits::links_per_process; ++i) {
    const auto index = p.client->take_link_index();
    REQUIRE(index);
    CHECK(*index == i);
  }
  CHECK(code_of(Link::connect(p.world.registry, *p.client, p.port, 1)) == Code::quota);
  CHECK(p.client_job->used().links == 0);
  p.client->release_link_index(5);
  CHECK(*p.client->take_link_index() == 5);
}

TEST_CASE("An owner that sealed the seals of its half loses the link") {
  Pair p;
  const Handle client = p.connect();
  Link& link = p.link(*p.client, client);
  REQUIRE(sys::seal(link.side(Link::client).half->writable(), false));
  CHECK(code_of(link.side_ready(Link::client)) == Code::denied);
  CHECK(link.state() == Link::State::closed);
}

TEST_CASE("A process may be both sides of a link") {
  Pair p;
  const auto both = p.world.process("both");
  auto end = *Link::connect(p.world.registry, *both, p.port, 1);
  Link& link = end->link();
  REQUIRE(both->handles.install(Reference(std::move(end), 0, 0)));
  REQUIRE(link.side_ready(Link::client));
  REQUIRE(both->handles.install(Reference(*link.accept(*both), 0, 0)));
  REQUIRE(link.side_ready(Link::server));
  CHECK(link.state() == Link::State::open);
  CHECK(both->link_count() == 2);
  both->die({});
  CHECK(p.world.registry.links.empty());
}
