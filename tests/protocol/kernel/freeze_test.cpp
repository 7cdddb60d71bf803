// Frozen regions: nobody changes them by any means, and nobody holds the kernel up with them.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "abi/runtime/kernel.hpp"
#include "tests/protocol/kernel/harness.hpp"

using namespace aios;
using namespace aios::test;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t size = 4 * proto::page_bytes;
constexpr std::uint64_t large = 48u << 20;  // more than one slice
constexpr int seal_exec = 0x20;             // newer than the headers of Debian 12

wire::Handle make_freezable(Client& client, std::uint64_t size_bytes = size) {
  const auto made = client.call<wire::RegionCreate>({size_bytes, wire::Name::from("ice"), 1, 0});
  REQUIRE_MESSAGE(made.ok(), made.text);
  return made.reply.region;
}

Fd descriptor(Client& client, wire::Handle region, bool writable) {
  auto mapped = client.call<wire::RegionMap>({region, writable ? 1u : 0u, 0});
  REQUIRE_MESSAGE(mapped.ok(), mapped.text);
  REQUIRE(mapped.fds.size() == 1);
  return std::move(mapped.fds[0]);
}

Code freeze(Client& client, wire::Handle region) {
  return client.call<wire::RegionFreeze>({region}).code;
}

wire::RegionKind kind_of(Client& client, wire::Handle region) {
  const auto info = client.call<wire::HandleInfo>({region});
  REQUIRE(info.ok());
  return static_cast<wire::RegionKind>(info.reply.region_kind);
}

std::uint64_t charged(Client& client) {
  const auto info = client.call<wire::JobInfo>({client.hello.job});
  REQUIRE(info.ok());
  return info.reply.used.memory_bytes;
}

/// Repeats `look` until it holds; the test fails when it does not in time.
template <class Look>
void await(Look look) {
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (!look()) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::yield();
  }
}

/// Every way to write by descriptor that a former writer has.
void check_descriptor_cannot_write(const Fd& fd) {
  char byte = 'w';
  const iovec part{&byte, 1};
  CHECK(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0) == MAP_FAILED);
  CHECK(::mmap(nullptr, size, PROT_WRITE, MAP_SHARED, fd.get(), 0) == MAP_FAILED);
  CHECK(::write(fd.get(), &byte, 1) == -1);
  CHECK(::pwrite(fd.get(), &byte, 1, 8) == -1);
  CHECK(::pwritev2(fd.get(), &part, 1, 8, 0) == -1);
  CHECK(::ftruncate(fd.get(), 0) == -1);
  CHECK(::ftruncate(fd.get(), 2 * size) == -1);
  for (const int mode : {0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                         FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE})
    CHECK(::fallocate(fd.get(), mode, 0, 2 * size) == -1);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const Fd reading(ends[0]);
  const Fd writing(ends[1]);
  REQUIRE(::write(writing.get(), &byte, 1) == 1);
  CHECK(::splice(reading.get(), nullptr, fd.get(), nullptr, 1, 0) == -1);
  const Fd program(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  CHECK(::sendfile(fd.get(), program.get(), nullptr, 1) == -1);
  CHECK(::copy_file_range(program.get(), nullptr, fd.get(), nullptr, 1, 0) == -1);
  for (const int seal : {F_SEAL_SEAL, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, seal_exec})
    CHECK(::fcntl(fd.get(), F_ADD_SEALS, seal) == -1);
  CHECK((::fcntl(fd.get(), F_GET_SEALS) & F_SEAL_WRITE) != 0);
  // A mapping of it is no way around either.
  void* reader = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (reader == MAP_FAILED) return;  // a writable descriptor, before Linux 6.7
  CHECK(::mprotect(reader, size, PROT_READ | PROT_WRITE) == -1);
  ::munmap(reader, size);
}

/// Every way to write by an old read-only mapping.
void check_mapping_cannot_write(const Mapping& mapping) {
  char byte = 'w';
  CHECK(::mprotect(mapping.data(), size, PROT_READ | PROT_WRITE) == -1);
  CHECK(::madvise(mapping.data(), size, MADV_REMOVE) == -1);
  const iovec from{&byte, 1};
  const iovec to{mapping.data(), 1};
  CHECK(::process_vm_writev(::getpid(), &from, 1, &to, 1, 0) == -1);
  const Fd memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  REQUIRE(memory.valid());
  CHECK(::pwrite(memory.get(), &byte, 1, reinterpret_cast<off_t>(mapping.data())) == -1);
}

}  // namespace

TEST_CASE("A frozen region cannot be written by any means that its writers and readers have") {
  Machine machine;
  Client writer = Client::ready(machine.socket_path());
  const wire::Handle region = make_freezable(writer);
  const Fd writable = descriptor(writer, region, true);
  const Fd read_only = descriptor(writer, region, false);
  {
    const auto mapping = Mapping::map(writable, size, Mapping::Access::read_write);
    REQUIRE(mapping);
    std::memset(mapping->data(), 'x', size);
  }
  const auto old = Mapping::map(read_only, size, Mapping::Access::read);
  REQUIRE(old);
  CHECK(kind_of(writer, region) == wire::RegionKind::data);
  REQUIRE(freeze(writer, region) == Code::ok);
  CHECK(kind_of(writer, region) == wire::RegionKind::frozen);

  const auto refused = writer.call<wire::RegionMap>({region, 1, 0});
  CHECK(refused.code == Code::denied);
  CHECK(refused.text.find("frozen") != std::string::npos);
  check_descriptor_cannot_write(writable);
  check_descriptor_cannot_write(read_only);
  check_descriptor_cannot_write(descriptor(writer, region, false));
  check_mapping_cannot_write(*old);
  for (const Fd* fd : {&writable, &read_only}) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd->get());
    CHECK(::truncate(path.c_str(), 0) == -1);
    const Fd again(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (again.valid()) check_descriptor_cannot_write(again);  // root opens mode 0
  }
  // A private copy may be written, and changes nothing.
  auto* copy = static_cast<char*>(
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, read_only.get(), 0));
  REQUIRE(copy != MAP_FAILED);
  copy[0] = 'w';
  ::munmap(copy, size);
  for (std::size_t i = 0; i < size; ++i) REQUIRE(old->data()[i] == std::byte{'x'});
}

TEST_CASE("Freezing is busy while anybody could still write, and leaves the region as it was") {
  Machine machine;
  Client owner = Client::ready(machine.socket_path());
  const wire::Handle region = make_freezable(owner);
  const Fd writable = descriptor(owner, region, true);
  for (const auto access : {Mapping::Access::read_write, Mapping::Access::read}) {
    // The second one looks harmless, but mprotect could make it a writer.
    const auto mapping = Mapping::map(writable, size, access);
    REQUIRE(mapping);
    const auto refused = owner.call<wire::RegionFreeze>({region});
    CHECK(refused.code == Code::busy);
    CHECK(refused.text.find("mapped for writing") != std::string::npos);
    CHECK(kind_of(owner, region) == wire::RegionKind::data);
    CHECK(::pwrite(writable.get(), "y", 1, 0) == 1);
    CHECK(Mapping::map(descriptor(owner, region, true), size, Mapping::Access::read_write));
  }
  CHECK(freeze(owner, region) == Code::ok);
}

TEST_CASE("A reader that keeps pages in a pipe makes freezing busy, and holds nobody up") {
  Machine machine;
  Client owner = Client::ready(machine.socket_path());
  Client other = Client::ready(machine.socket_path());
  const wire::Handle region = make_freezable(owner);
  REQUIRE(::pwrite(descriptor(owner, region, true).get(), "page", 4, 0) == 4);
  const Fd reader = descriptor(owner, region, false);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const Fd reading(ends[0]);
  const Fd writing(ends[1]);
  off_t from = 0;
  REQUIRE(::splice(reader.get(), &from, writing.get(), nullptr, 4096, 0) == 4096);
  // Linux waits for such pages, so a kernel that sealed the file itself would answer in order.
  bool overtaken = false;
  for (int attempt = 0; attempt < 20 && !overtaken; ++attempt) {
    owner.send<wire::RegionFreeze>({region});
    REQUIRE(other.call<wire::InstanceInfo>({}).ok());
    pollfd answered{owner.socket(), POLLIN, 0};
    overtaken = ::poll(&answered, 1, 0) == 0;
    REQUIRE(owner.receive<wire::RegionFreeze>().code == Code::busy);
  }
  CHECK(overtaken);
  char page[4096];
  REQUIRE(::read(reading.get(), page, sizeof page) == 4096);
  CHECK(freeze(owner, region) == Code::ok);
}

TEST_CASE("Freezing needs map_write, and a region that was created for it") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const wire::Handle region = make_freezable(client);
  constexpr std::uint32_t mask = rights::info | rights::map_read;
  const auto reader = client.call<wire::HandleDuplicate>({region, mask, mask});
  REQUIRE(reader.ok());
  CHECK(freeze(client, reader.reply.handle) == Code::denied);
  const auto plain = client.call<wire::RegionCreate>({size, wire::Name::from("r"), 0, 0});
  const auto refused = client.call<wire::RegionFreeze>({plain.reply.region});
  CHECK(refused.code == Code::not_supported);
  CHECK_FALSE(refused.text.empty());
  CHECK(client.call<wire::RegionCreate>({size, wire::Name::from("r"), 2, 0}).code ==
        Code::invalid_argument);
  CHECK(freeze(client, 0) == Code::bad_handle);
  CHECK(freeze(client, client.hello.job) == Code::wrong_type);
  const auto file = client.call<wire::FileCreate>({});
  CHECK(freeze(client, file.reply.file) == Code::wrong_type);
  CHECK(kind_of(client, region) == wire::RegionKind::data);
}

TEST_CASE("A region is frozen once; freezing it again, or by two at once, is ok") {
  Machine machine;
  Client server = Client::ready(machine.socket_path(), "server");
  const wire::Handle port = publish_port(server, "echo");
  Client client = Client::ready(machine.socket_path(), "client");
  const OpenLink link = open_link(client, client.startup("echo"), server, port);
  const wire::Handle region = make_freezable(client);
  constexpr std::uint32_t mask = rights::info | rights::map_read | rights::map_write;
  const auto type = static_cast<std::uint32_t>(wire::ObjectType::region);
  wire::LinkSend::Request request{link.client, 1, {}};
  request.entries[0] = {region, type, mask, 0, 0};
  const auto sent = client.call<wire::LinkSend>(request);
  REQUIRE(sent.ok());
  client.send<wire::RegionFreeze>({region});
  server.send<wire::RegionFreeze>({sent.reply.handles[0]});
  // Each may find the other's child at work: then it is busy, or sealed by the other.
  const Code first = client.receive<wire::RegionFreeze>().code;
  const Code second = server.receive<wire::RegionFreeze>().code;
  CHECK(first == Code::ok);
  CHECK(second == Code::ok);
  CHECK(freeze(client, region) == Code::ok);
  CHECK(freeze(server, sent.reply.handles[0]) == Code::ok);
  CHECK(kind_of(server, sent.reply.handles[0]) == wire::RegionKind::frozen);
}

TEST_CASE("A holder that maps for writing just then is in time or too late, never both") {
  Machine machine;
  Client owner = Client::ready(machine.socket_path());
  for (int round = 0; round < 20; ++round) {
    const wire::Handle region = make_freezable(owner);
    const Fd writable = descriptor(owner, region, true);
    std::atomic<int> after_freeze = 0;
    std::atomic<bool> frozen = false;
    std::thread mapper([&] {
      for (char value = 0; after_freeze < 100; ++value) {
        if (frozen) ++after_freeze;
        const auto mapping = Mapping::map(writable, size, Mapping::Access::read_write);
        if (mapping) mapping->data()[0] = std::byte(value);
      }
    });
    Code code = Code::busy;
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (code == Code::busy && std::chrono::steady_clock::now() < deadline)
      code = freeze(owner, region);
    const auto reader = Mapping::map(descriptor(owner, region, false), size, Mapping::Access::read);
    const std::byte before = reader->data()[0];
    frozen = true;
    mapper.join();
    CHECK(code == Code::ok);
    CHECK(reader->data()[0] == before);
    REQUIRE(owner.call<wire::HandleClose>({region}).ok());
  }
}

TEST_CASE("Seals put on by a holder of a writable descriptor harm nobody but its own region") {
  Machine machine;
  Client owner = Client::ready(machine.socket_path(), "owner", {.memory_bytes = 2 * large});
  const auto before = charged(owner);
  const struct {
    int seals;
    Code frozen;
  } cases[] = {{F_SEAL_SEAL, Code::denied},
               {F_SEAL_GROW | F_SEAL_SHRINK, Code::ok},
               {seal_exec, Code::ok},
               {F_SEAL_FUTURE_WRITE, Code::ok},
               {F_SEAL_FUTURE_WRITE | F_SEAL_SEAL, Code::denied},
               {F_SEAL_WRITE, Code::ok},
               {F_SEAL_WRITE | F_SEAL_SEAL, Code::ok}};
  for (const auto& [seals, expected] : cases) {
    CAPTURE(seals);
    for (const bool first_frozen : {true, false}) {
      const wire::Handle region = make_freezable(owner, large);
      const Fd writable = descriptor(owner, region, true);
      // Before Linux 6.3 there is no seal against execution.
      REQUIRE((::fcntl(writable.get(), F_ADD_SEALS, seals) == 0 || seals == seal_exec));
      if (first_frozen) CHECK(freeze(owner, region) == expected);
      REQUIRE(owner.call<wire::HandleClose>({region}).ok());
      CHECK(charged(owner) == before);
    }
  }
  // Whoever closed that memory has given it back: the quota's worth can be filled again.
  CHECK(owner.call<wire::InstanceInfo>({}).ok());
  make_freezable(owner, large);
}

TEST_CASE("A plain data region can still be sealed by nobody") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const auto made = client.call<wire::RegionCreate>({size, wire::Name::from("r"), 0, 0});
  const Fd writable = descriptor(client, made.reply.region, true);
  for (const int seal : {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_SEAL, F_SEAL_GROW})
    CHECK(::fcntl(writable.get(), F_ADD_SEALS, seal) == -1);
}

TEST_CASE("A process that dies while it freezes leaves the region frozen for the others") {
  Machine machine;
  Client survivor = Client::ready(machine.socket_path());
  const auto before = charged(survivor);
  for (int round = 0; round < 10; ++round) {
    Client dying = Client::ready(machine.socket_path());
    const wire::Handle region = make_freezable(dying, large);
    REQUIRE(dying.call<wire::HandleKeep>({region, wire::Label::from("ice")}).ok());
    dying.send<wire::RegionFreeze>({region});
    dying.hang_up();
    Client heir = Client::ready(machine.socket_path());
    const wire::Handle found = heir.startup("ice");
    REQUIRE(found != 0);
    // Its call may have been dropped with the connection: then the heir's freezes it.
    const Code code = freeze(heir, found);
    CHECK(code == Code::ok);
    CHECK(kind_of(heir, found) == wire::RegionKind::frozen);
    REQUIRE(heir.call<wire::HandleKeep>({0, wire::Label::from("ice")}).ok());
  }
  await([&] { return charged(survivor) == before; });
}

TEST_CASE("A kept frozen region is frozen for the process that finds it after a restart") {
  Machine machine;
  const Client keeper = Client::ready(machine.socket_path());  // its job lives on with it
  wire::Handle region = 0;
  {
    Client first = Client::ready(machine.socket_path());
    region = make_freezable(first);
    REQUIRE(::pwrite(descriptor(first, region, true).get(), "kept", 4, 0) == 4);
    REQUIRE(freeze(first, region) == Code::ok);
    REQUIRE(first.call<wire::HandleKeep>({region, wire::Label::from("ice")}).ok());
  }
  Client second = Client::ready(machine.socket_path());
  const wire::Handle found = second.startup("ice");
  REQUIRE(found != 0);
  CHECK(kind_of(second, found) == wire::RegionKind::frozen);
  CHECK(second.call<wire::RegionMap>({found, 1, 0}).code == Code::denied);
  const Fd reader = descriptor(second, found, false);
  char bytes[4];
  REQUIRE(::pread(reader.get(), bytes, 4, 0) == 4);
  CHECK(std::string_view(bytes, 4) == "kept");
  check_descriptor_cannot_write(reader);
}

namespace {

/// Page faults of children that the kernel has waited for: each child has some.
std::uint64_t faults_of_children(Machine& machine) {
  std::ifstream file("/proc/" + std::to_string(machine.kernel().pid()) + "/stat");
  std::stringstream text;
  text << file.rdbuf();
  std::istringstream fields(text.str().substr(text.str().rfind(')') + 1));
  std::string skipped;
  for (int field = 3; field < 11; ++field) fields >> skipped;
  std::uint64_t faults = 0;
  fields >> faults;
  return faults;
}

}  // namespace

TEST_CASE(
    "The memory of a large frozen region is given back by a child, that of others by slices") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const auto before = charged(client);
  const auto plain = client.call<wire::RegionCreate>({large, wire::Name::from("r"), 0, 0});
  REQUIRE(plain.ok());
  const Fd watched = descriptor(client, plain.reply.region, false);
  const wire::Handle frozen = make_freezable(client, large);
  REQUIRE(freeze(client, frozen) == Code::ok);
  CHECK(charged(client) == before + 2 * large);
  const auto faults = faults_of_children(machine);
  REQUIRE(client.call<wire::HandleClose>({plain.reply.region}).ok());
  await([&] {
    struct stat info {};
    REQUIRE(::fstat(watched.get(), &info) == 0);
    return info.st_blocks == 0;
  });
  CHECK(faults_of_children(machine) == faults);
  REQUIRE(client.call<wire::HandleClose>({frozen}).ok());
  CHECK(charged(client) == before);
  // Whatever is filled now is filled after the memory is given back, and so after the child's end.
  make_freezable(client);
  CHECK(faults_of_children(machine) > faults);
}

TEST_CASE("Frozen regions are listed as such") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const wire::Handle region = make_freezable(client);
  REQUIRE(freeze(client, region) == Code::ok);
  int frozen = 0;
  for (std::uint64_t after = 0;;) {
    const auto next = client.call<wire::RegionNext>({client.hello.job, after});
    REQUIRE(next.ok());
    after = next.reply.region_id;
    if (after == 0) break;
    if (static_cast<wire::RegionKind>(next.reply.kind) != wire::RegionKind::frozen) continue;
    ++frozen;
    CHECK(next.reply.name.view() == "ice");
    CHECK(next.reply.size_bytes == size);
  }
  CHECK(frozen == 1);
}

TEST_CASE("Through the runtime: a region freezes in place, and is as before where that fails") {
  Machine machine;
  const auto kernel = Kernel::attach(machine.socket_path());
  REQUIRE(kernel);
  auto region = Region::create_freezable(**kernel, size, "ice");
  REQUIRE(region);
  std::byte* const address = region->data();
  std::memset(address, 'a', size);
  CHECK(*region->kind() == wire::RegionKind::data);
  {
    const auto second = (*kernel)->duplicate(region->handle(), rights::all, 0);
    CHECK_FALSE(second);
    constexpr std::uint32_t mask = rights::map_read | rights::map_write;
    const auto writer = Region::map(**kernel, *(*kernel)->duplicate(region->handle(), mask, 0),
                                    Mapping::Access::read_write);
    REQUIRE(writer);
    const auto refused = region->freeze();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code() == Code::busy);
    CHECK(region->data() == address);
    address[0] = std::byte{'b'};
    CHECK(writer->data()[0] == std::byte{'b'});
  }
  REQUIRE(region->freeze());
  CHECK(region->data() == address);
  CHECK(address[0] == std::byte{'b'});
  CHECK(address[size - 1] == std::byte{'a'});
  CHECK(::mprotect(address, size, PROT_READ | PROT_WRITE) == -1);
  CHECK(*region->kind() == wire::RegionKind::frozen);
  CHECK(region->freeze());

  auto plain = Region::create(**kernel, size, "plain");
  REQUIRE(plain);
  const auto refused = plain->freeze();
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == Code::not_supported);
  plain->data()[0] = std::byte{1};
  CHECK_FALSE(Region().freeze());
}
