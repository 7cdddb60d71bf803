// Malformed packets of every kind, for every method of the list.
#include <doctest/doctest.h>

#include <random>

#include "tests/protocol/kernel/harness.hpp"

using namespace aios;
using namespace aios::test;

namespace {

template <class Visit, class... Ms>
void for_each_method(proto::MethodList<Ms...>, Visit visit) {
  (visit(Ms{}), ...);
}

std::vector<std::byte> packet_of(std::uint32_t opcode, std::uint32_t announced,
                                 std::size_t following) {
  const wire::CallHeader header{opcode, announced, 77};
  std::vector<std::byte> packet(sizeof header + following);
  std::memcpy(packet.data(), &header, sizeof header);
  return packet;
}

/// Sends it on a fresh connection: the answer is `code` and the end, or the end alone.
void check_refused(Machine& machine, const std::vector<std::byte>& packet,
                   Code code = Code::protocol_error) {
  Client client = Client::ready(machine.socket_path());
  client.send_raw(packet);
  const auto answer = client.receive<wire::Ready>();
  CHECK((answer.code == code || answer.code == Code::peer_closed));
  if (answer.code == code) {
    CHECK_FALSE(answer.text.empty());
    CHECK(client.is_closed());
  }
}

}  // namespace

TEST_CASE("A packet of wrong length ends the connection, for every method") {
  Machine machine;
  for_each_method(wire::Protocol::Methods{}, [&]<class M>(M) {
    CAPTURE(M::name);
    constexpr std::uint32_t size = sizeof(typename M::Request);
    // A hello of another length is another version's.
    const Code code =
        M::opcode == wire::Hello::opcode ? Code::version_mismatch : Code::protocol_error;
    check_refused(machine, packet_of(M::opcode, size - 1, size - 1), code);
    check_refused(machine, packet_of(M::opcode, size + 1, size + 1), code);
    check_refused(machine, packet_of(M::opcode, size, size - 1), code);
    check_refused(machine, packet_of(M::opcode, size - 1, size), code);
    check_refused(machine, packet_of(M::opcode, 0, 0), code);
    check_refused(machine, packet_of(M::opcode, 0xffffffff, size), code);
  });
}

TEST_CASE("An unknown opcode, a torn header and an oversized packet end the connection") {
  Machine machine;
  check_refused(machine, packet_of(0, 8, 8));
  check_refused(machine, packet_of(9999, 8, 8));
  check_refused(machine, packet_of(wire::Ready::opcode | 0x10000, 8, 8));
  check_refused(machine, std::vector<std::byte>(1));
  check_refused(machine, std::vector<std::byte>(sizeof(wire::CallHeader) - 1));
  check_refused(machine, packet_of(wire::Ready::opcode, 8, 60'000));
  check_refused(machine, packet_of(wire::Ready::opcode, 4080, 4081));
}

TEST_CASE("A reserved field that is not zero is an invalid argument, for every method with one") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  int tried = 0;
  for_each_method(wire::Protocol::Methods{}, [&]<class M>(M) {
    for (const proto::FieldInfo& field : M::Request::fields()) {
      if (std::string_view(field.name) != "reserved") continue;
      CAPTURE(M::name);
      typename M::Request request{};
      reinterpret_cast<std::byte*>(&request)[field.offset + field.size - 1] = std::byte{1};
      CHECK(client.call<M>(request).code == Code::invalid_argument);
      ++tried;
    }
  });
  CHECK(tried >= 8);
}

TEST_CASE("Every call before hello is denied, for every method") {
  Machine machine;
  Client client(machine.socket_path());
  for_each_method(wire::Protocol::Methods{}, [&]<class M>(M) {
    CAPTURE(M::name);
    if (M::opcode != wire::Hello::opcode) CHECK(client.call<M>({}).code == Code::denied);
  });
}

TEST_CASE("Requests of random bytes break nothing and always get an answer or the end") {
  Machine machine;
  const unsigned seed = 20240607;
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 40; ++round) {
    for_each_method(wire::Protocol::Methods{}, [&]<class M>(M) {
      if (M::opcode == wire::InstanceShutdown::opcode) return;
      CAPTURE(M::name);
      Client client = Client::ready(machine.socket_path());
      typename M::Request request;
      auto* bytes = reinterpret_cast<std::byte*>(&request);
      const bool small = round % 2 == 0;
      for (std::size_t i = 0; i < sizeof request; ++i)
        bytes[i] = static_cast<std::byte>(small ? random() % 3 : random() % 256);
      const auto answer = client.call<M>(request);
      CHECK(answer.code != Code::internal);
    });
  }
  CHECK(Client::ready(machine.socket_path()).call<wire::InstanceInfo>({}).ok());
}

TEST_CASE("Descriptors sent to the kernel go nowhere") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const wire::CallHeader header{wire::InstanceInfo::opcode, 8, 5};
  std::vector<std::byte> packet(sizeof header + 8);
  std::memcpy(packet.data(), &header, sizeof header);
  const int fds[] = {0, 1, 2};
  const auto sent = send_packet(client.socket(), packet, fds, 0);
  // Where the host lets the kernel refuse them the sender is told; elsewhere they are dropped.
  if (!sent) client.send_raw(packet);
  CHECK(client.receive<wire::InstanceInfo>().ok());
}

TEST_CASE("A process that does not read its replies is served no further call, and only it waits") {
  Machine machine;
  Client lazy = Client::ready(machine.socket_path());
  lazy.send<wire::PortCreate>({wire::Name::from("one")});
  lazy.send<wire::PortCreate>({wire::Name::from("two")});
  lazy.send<wire::PortCreate>({wire::Name::from("three")});
  Client other = Client::ready(machine.socket_path());
  for (int i = 0; i < 100; ++i) REQUIRE(other.call<wire::InstanceInfo>({}).ok());
  const auto record =
      other.call<wire::ProcessNext>({other.startup("root"), lazy.hello.process_id - 1});
  REQUIRE(record.ok());
  CHECK(record.reply.process_id == lazy.hello.process_id);
  CHECK(record.reply.handles <= 4);  // own job, root, a published port, the first new one
  for (int i = 0; i < 3; ++i) CHECK(lazy.receive<wire::PortCreate>().ok());
}
