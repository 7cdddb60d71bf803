// Memory over the wire: sealing, sharing, charging.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "abi/runtime/host_memory.hpp"
#include "tests/protocol/kernel/harness.hpp"

using namespace aios;
using namespace aios::test;

namespace {

/// Nobody can become a second writer through `fd`.
void check_no_more_writers(const Fd& fd, const Mapping& old, std::size_t size_bytes) {
  CHECK(::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0) == MAP_FAILED);
  CHECK(errno == EPERM);
  CHECK(::write(fd.get(), "x", 1) == -1);
  CHECK(errno == EPERM);
  CHECK(::ftruncate(fd.get(), 0) == -1);
  CHECK(errno == EPERM);
  CHECK(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1);
  CHECK(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE) == -1);
  old.data()[0] = std::byte{1};  // the owner's mapping lives on
  void* reader = ::mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  REQUIRE(reader != MAP_FAILED);
  CHECK(::mprotect(reader, size_bytes, PROT_READ | PROT_WRITE) == -1);
  ::munmap(reader, size_bytes);
}

}  // namespace

TEST_CASE("A confirmed status page has no writer but its owner") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  check_no_more_writers(client.status_fd, client.status_page, proto::page_bytes);
  CHECK(client.call<wire::Ready>({}).code == Code::already_exists);
}

TEST_CASE("A confirmed half has no writer but its owner, and the peer can only read it") {
  Machine machine;
  Client server = Client::ready(machine.socket_path(), "server");
  const wire::Handle port = publish_port(server, "echo");
  Client client = Client::ready(machine.socket_path(), "client");
  const OpenLink link = open_link(client, client.startup("echo"), server, port);
  check_no_more_writers(link.client_half, link.client_map, proto::half_bytes);
  check_no_more_writers(link.server_half, link.server_map, proto::half_bytes);
  for (const Fd* seen : {&link.client_sees_half, &link.client_sees_status}) {
    CHECK(::fcntl(seen->get(), F_GETFL) % 4 == O_RDONLY);
    CHECK_FALSE(Mapping::map(*seen, proto::page_bytes, Mapping::Access::read_write));
  }
}

TEST_CASE("The kernel page cannot be written by its process") {
  Machine machine;
  Client client(machine.socket_path());
  const auto hello = client.call<wire::Hello>({wire::abi_version, 0, {}, {}});
  REQUIRE(hello.ok());
  CHECK(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, hello.fds[1].get(), 0) ==
        MAP_FAILED);
  CHECK(::fcntl(hello.fds[1].get(), F_GET_SEALS) ==
        (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_FUTURE_WRITE |
         (::fcntl(hello.fds[1].get(), F_GET_SEALS) & 0x20)));
}

TEST_CASE("An owner that seals the seals first cannot confirm its status page or make a link") {
  Machine machine;
  Client server = Client::ready(machine.socket_path());
  publish_port(server, "echo");
  Client client(machine.socket_path());
  const auto hello = client.call<wire::Hello>({wire::abi_version, 0, {}, {}});
  REQUIRE(hello.ok());
  REQUIRE(::fcntl(hello.fds[0].get(), F_ADD_SEALS, F_SEAL_SEAL) == 0);
  CHECK(client.call<wire::PortConnect>({client.startup("echo"), 1}).code == Code::denied);
  CHECK(client.call<wire::Ready>({}).code == Code::denied);
  CHECK(client.call<wire::PortConnect>({client.startup("echo"), 1}).code == Code::denied);
}

TEST_CASE("Memory of regions has mode 0 and a read-only descriptor cannot write") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const auto made = client.call<wire::RegionCreate>({1, wire::Name::from("r"), 0, 0});
  REQUIRE(made.ok());
  CHECK(made.reply.size_bytes == 4096);
  const auto read_only = client.call<wire::RegionMap>({made.reply.region, 0, 0});
  const auto writable = client.call<wire::RegionMap>({made.reply.region, 1, 0});
  REQUIRE(read_only.ok());
  REQUIRE(writable.ok());
  struct stat info {};
  REQUIRE(::fstat(read_only.fds[0].get(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0);
  CHECK(info.st_blocks * 512 >= 4096);
  CHECK(::write(read_only.fds[0].get(), "x", 1) == -1);
  CHECK(::fcntl(writable.fds[0].get(), F_ADD_SEALS, F_SEAL_WRITE) == -1);
  const auto mapping = Mapping::map(writable.fds[0], 4096, Mapping::Access::read_write);
  REQUIRE(mapping);
  mapping->data()[0] = std::byte{9};
  CHECK(Mapping::map(read_only.fds[0], 4096, Mapping::Access::read)->data()[0] == std::byte{9});
}

TEST_CASE("A large region is filled while others are served, and is all there when it is replied") {
  Machine machine;
  Client creator = Client::ready(machine.socket_path());
  Client other = Client::ready(machine.socket_path());
  constexpr std::uint64_t size_bytes = 256u << 20;
  creator.send<wire::RegionCreate>({size_bytes, wire::Name::from("large"), 0, 0});
  for (int i = 0; i < 10; ++i) REQUIRE(other.call<wire::InstanceInfo>({}).ok());
  const auto made = creator.receive<wire::RegionCreate>();
  REQUIRE(made.ok());
  const auto mapped = creator.call<wire::RegionMap>({made.reply.region, 0, 0});
  struct stat info {};
  REQUIRE(::fstat(mapped.fds[0].get(), &info) == 0);
  CHECK(static_cast<std::uint64_t>(info.st_blocks) * 512 >= size_bytes);
  REQUIRE(creator.call<wire::HandleClose>({made.reply.region}).ok());
  // Given back by punching, though the descriptor here still holds the file.
  while (info.st_blocks != 0) {
    REQUIRE(other.call<wire::InstanceInfo>({}).ok());
    REQUIRE(::fstat(mapped.fds[0].get(), &info) == 0);
  }
}

namespace {

/// On which NUMA node the page lies that is mapped there.
int node_of(const std::byte* address) {
  void* page = const_cast<std::byte*>(address);
  int node = -1;
  (void)::syscall(SYS_move_pages, 0, 1, &page, nullptr, &node, 0);
  return node;
}

}  // namespace

TEST_CASE("A region's pages lie on the NUMA nodes asked for, each page of one of them") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const NumaNodes there = numa_nodes();
  constexpr std::uint64_t size_bytes = 20u << 20;
  std::vector<NumaNodes> wanted{all_numa_nodes};
  for (NumaNodes left = there; left != 0; left &= left - 1)
    wanted.push_back(NumaNodes{1} << std::countr_zero(left));
  for (const NumaNodes nodes : wanted) {
    const auto made =
        client.call<wire::RegionCreate>({size_bytes, wire::Name::from("near"), 0, 0, nodes});
    REQUIRE(made.ok());
    const auto mapped = client.call<wire::RegionMap>({made.reply.region, 0, 0});
    const auto mapping = Mapping::map(mapped.fds[0], size_bytes, Mapping::Access::read);
    REQUIRE(mapping);
    NumaNodes seen = 0;
    for (std::uint64_t at = 0; at < size_bytes; at += 4096) {
      REQUIRE(mapping->data()[at] == std::byte{0});
      const int node = node_of(mapping->data() + at);
      if (node >= 0) seen |= NumaNodes{1} << node;
    }
    // 0: the host does not tell, as in a container.
    CHECK((seen == 0 || seen == (nodes & there)));
    REQUIRE(client.call<wire::HandleClose>({made.reply.region}).ok());
  }
}

TEST_CASE("A region on NUMA nodes that the machine lacks is refused, and charged to nobody") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const NumaNodes there = numa_nodes();
  const auto used = [&] {
    return client.call<wire::JobInfo>({client.hello.job}).reply.used.memory_bytes;
  };
  const std::uint64_t before = used();
  const auto made =
      client.call<wire::RegionCreate>({1u << 20, wire::Name::from("far"), 0, 0, ~there});
  // Where the host says nothing of nodes there is none to refuse.
  CHECK(made.code == (there == 0 || ~there == 0 ? Code::ok : Code::invalid_argument));
  if (!made.ok()) CHECK(used() == before);
}

TEST_CASE("A creator that dies while its region is filled leaves nothing charged") {
  Machine machine;
  Client observer = Client::ready(machine.socket_path());
  const auto root = observer.startup("root");
  const auto before = observer.call<wire::JobInfo>({root}).reply.used.memory_bytes;
  Client creator = Client::ready(machine.socket_path());
  creator.send<wire::RegionCreate>({512u << 20, wire::Name::from("large"), 0, 0});
  creator.hang_up();
  while (observer.call<wire::JobInfo>({root}).reply.used.memory_bytes != before) {
  }
  CHECK(observer.call<wire::JobInfo>({root}).reply.used.processes == 2);
}

TEST_CASE("Regions beyond a job's quota are refused and count again after a close") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "small", {.memory_bytes = 64u << 10});
  CHECK(client.call<wire::RegionCreate>({64u << 10, wire::Name::from("r"), 0, 0}).code ==
        Code::quota);
  CHECK(client.call<wire::RegionCreate>({0, wire::Name::from("r"), 0, 0}).code ==
        Code::invalid_argument);
  CHECK(client.call<wire::RegionCreate>({~0ull, wire::Name::from("r"), 0, 0}).code == Code::quota);
  const auto made = client.call<wire::RegionCreate>({48u << 10, wire::Name::from("r"), 0, 0});
  REQUIRE(made.ok());
  CHECK(client.call<wire::RegionCreate>({48u << 10, wire::Name::from("r"), 0, 0}).code ==
        Code::quota);
  REQUIRE(client.call<wire::HandleClose>({made.reply.region}).ok());
  CHECK(client.call<wire::RegionCreate>({48u << 10, wire::Name::from("r"), 0, 0}).ok());
}

TEST_CASE("All connections of a user to one job share its quota, and a user's jobs the user's") {
  Machine machine;
  const wire::Quota quota{.memory_bytes = 1u << 20, .processes = 2, .handles = 40};
  Client one = Client::ready(machine.socket_path(), "shared", quota);
  Client two = Client::ready(machine.socket_path(), "shared", {.memory_bytes = 64u << 20});
  const auto take = [](Client& client, std::uint64_t bytes) {
    return client.call<wire::RegionCreate>({bytes, wire::Name::from("taken"), 0, 0}).code;
  };
  CHECK(one.hello.job_id == two.hello.job_id);
  CHECK(take(one, 700u << 10) == Code::ok);
  CHECK(take(two, 700u << 10) == Code::quota);
  CHECK(take(two, 200u << 10) == Code::ok);
  Client third(machine.socket_path());
  const auto refused =
      third.call<wire::Hello>({wire::abi_version, 0, wire::Name::from("shared"), {}});
  CHECK(refused.code == Code::quota);
  const auto job = one.call<wire::JobInfo>({one.hello.job}).reply;
  CHECK(job.quota.memory_bytes == quota.memory_bytes);
  CHECK(job.used.processes == 2);
  CHECK(job.used.memory_bytes > 900u << 10);
  // The user's job above it counts them, too.
  Client other = Client::ready(machine.socket_path());
  const auto user = other.call<wire::JobInfo>({other.hello.job}).reply;
  CHECK(user.used.processes == 3);
  CHECK(user.used.memory_bytes > job.used.memory_bytes);
}

TEST_CASE("Jobs are listed in the order of their ids, from the job that is shown on") {
  Machine machine;
  Client one = Client::ready(machine.socket_path(), "one", {.links = 7, .cpu_millis = 1500});
  Client two = Client::ready(machine.socket_path(), "two");
  const wire::Handle root = one.startup("root");
  std::vector<std::string> names;
  std::uint64_t after = 0;
  for (;;) {
    const auto next = one.call<wire::JobNext>({root, after});
    REQUIRE(next.ok());
    if (next.reply.job_id == 0) break;
    REQUIRE(next.reply.job_id > after);
    after = next.reply.job_id;
    names.emplace_back(next.reply.name.view());
    if (names.back() == "one") {
      CHECK(next.reply.quota.cpu_millis == 1500);
      CHECK(next.reply.quota.links == 7);
      CHECK(next.reply.used.cpu_millis == 0);
    }
  }
  CHECK(names.front() == "root");
  CHECK(std::count(names.begin(), names.end(), "one") == 1);
  CHECK(std::count(names.begin(), names.end(), "two") == 1);
  // From its own job on there is nobody else.
  CHECK(one.call<wire::JobNext>({one.hello.job, 0}).reply.job_id == one.hello.job_id);
  CHECK(one.call<wire::JobNext>({one.hello.job, one.hello.job_id}).reply.job_id == 0);
}

TEST_CASE("Regions are listed with their size, job, name and kind") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  const auto made = client.call<wire::RegionCreate>({8192, wire::Name::from("listed"), 0, 0});
  REQUIRE(made.ok());
  int data = 0;
  int control = 0;
  std::uint64_t after = 0;
  for (;;) {
    const auto next = client.call<wire::RegionNext>({client.hello.job, after});
    REQUIRE(next.ok());
    after = next.reply.region_id;
    if (after == 0) break;
    CHECK(next.reply.job_name.view() == "mine");
    const auto kind = static_cast<wire::RegionKind>(next.reply.kind);
    (kind == wire::RegionKind::control ? control : data) += 1;
    if (kind == wire::RegionKind::control) continue;
    CHECK(kind == wire::RegionKind::data);
    CHECK(next.reply.size_bytes == 8192);
    CHECK(next.reply.name.view() == "listed");
    CHECK(next.reply.handles == 1);
  }
  CHECK(data == 1);
  CHECK(control == 2);
}
