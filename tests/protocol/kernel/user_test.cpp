// Programs of other users at an instance that is open to them. Only root can be somebody else.
#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "tests/protocol/kernel/harness.hpp"

using namespace aios;
using namespace aios::test;
namespace rights = wire::rights;

namespace {

constexpr uid_t ann = 64'401;
constexpr uid_t bob = 64'402;
constexpr gid_t group = 64'400;

/// Is another user for a while: a connection belongs to whoever the thread was then.
class As {
 public:
  explicit As(uid_t uid) {
    REQUIRE(::setegid(group) == 0);
    REQUIRE(::seteuid(uid) == 0);
  }
  ~As() {
    (void)!::seteuid(0);
    (void)!::setegid(0);
  }
};

/// An instance whose socket others can reach, if its mode lets them.
struct OpenMachine {
  Machine machine;
  Client root = Client::ready(machine.socket_path());

  OpenMachine() { ::chmod(machine.state().c_str(), 0755); }
  Code open_to_users(const wire::Quota& quota) {
    return root
        .call<wire::InstanceConfigure>({.root = root.startup("root"),
                                        .user_quota = quota,
                                        .shutdown_timeout_ns = 10'000'000'000,
                                        .open_to_users = 1,
                                        .group = group})
        .code;
  }
  Client of(uid_t uid, const std::string& job = "") {
    const As user(uid);
    return Client::ready(machine.socket_path(), job);
  }
  Code refusal(uid_t uid) {
    const As user(uid);
    Client client(machine.socket_path());
    return client.call<wire::Hello>({wire::abi_version, 0, {}, {}}).code;
  }
};

bool is_root() {
  if (::geteuid() == 0) return true;
  MESSAGE("skipped: only root can be another user");
  return false;
}

/// Waits until the process is no longer root's, and tells whose it is.
uid_t await_uid(std::uint64_t pid) {
  uid_t uid = 0;
  for (int looks = 0; uid == 0 && looks < 5000; ++looks) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    std::string word;
    while (status >> word)
      if (word == "Uid:") status >> uid;
    ::poll(nullptr, 0, uid == 0 ? 1 : 0);
  }
  return uid;
}

constexpr wire::Quota small{.memory_bytes = 1u << 20, .processes = 3, .handles = 60, .links = 8};

}  // namespace

TEST_CASE("An instance serves no other user before it was opened, and then the socket's group") {
  if (!is_root()) return;
  OpenMachine open;
  struct stat info {};
  REQUIRE(::stat(open.machine.socket_path().c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0600);
  // The mode keeps others out; the kernel would, too.
  ::chmod(open.machine.socket_path().c_str(), 0666);
  CHECK(open.refusal(ann) == Code::denied);
  REQUIRE(open.open_to_users(small) == Code::ok);
  REQUIRE(::stat(open.machine.socket_path().c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0660);
  CHECK(info.st_gid == group);
  CHECK(open.refusal(ann) == Code::ok);
  CHECK(open.root.call<wire::InstanceInfo>({}).reply.open_to_users == 1);
}

TEST_CASE("A user's programs have a job of the user's, with its quota, and never the root job") {
  if (!is_root()) return;
  OpenMachine open;
  REQUIRE(open.open_to_users(small) == Code::ok);
  Client client = open.of(ann);
  CHECK(client.startup("root") == 0);
  CHECK(client.startup("served") != 0);
  const auto job = client.call<wire::JobInfo>({client.hello.job}).reply;
  CHECK(job.name.view() == "user:" + std::to_string(ann));
  CHECK(job.uid == ann);
  CHECK(job.quota.memory_bytes == small.memory_bytes);
  CHECK(job.quota.processes == small.processes);
  CHECK(job.quota.handles == small.handles);
  CHECK(job.quota.links == small.links);
  // Its own job is no substitute for the root.
  const auto own = client.hello.job;
  CHECK(client.call<wire::InstanceShutdown>({own}).code == Code::denied);
  CHECK(client.call<wire::InstanceConfigure>({.root = own}).code == Code::denied);
  CHECK(client.call<wire::PortPublish>({own, client.startup("served"), wire::Label::from("x")})
            .code == Code::denied);
  CHECK(client
            .call<wire::SpawnerCreate>({.job = own,
                                        .name = wire::Name::from("x"),
                                        .image = proto::Text<512>::from("/bin/sh")})
            .code == Code::denied);
}

TEST_CASE("A user's program starts no children: the kernel would start them as root") {
  if (!is_root()) return;
  OpenMachine open;
  REQUIRE(open.open_to_users(small) == Code::ok);
  Client client = open.of(ann);
  wire::ProcessSpawn::Request request{.job = client.hello.job, .name = wire::Name::from("evil")};
  request.image = proto::Text<512>::from(child_binary());
  CHECK(client.call<wire::ProcessSpawn>(request).code == Code::denied);
}

TEST_CASE("What is started in a user's job runs as that user") {
  if (!is_root()) return;
  OpenMachine open;
  REQUIRE(open.open_to_users(small) == Code::ok);
  Client client = open.of(ann);
  std::uint64_t after = 0;
  wire::JobRecord job{};
  const auto root = open.root.startup("root");
  do after = (job = open.root.call<wire::JobNext>({root, after}).reply).job_id;
  while (job.job_id != 0 && job.uid != ann);
  REQUIRE(job.uid == ann);
  const auto spawner = open.root.call<wire::SpawnerCreate>(
      {.job = root,
       .profile = static_cast<std::uint32_t>(wire::Profile::context),
       .name = wire::Name::from("context"),
       .image = proto::Text<512>::from(child_binary())});
  REQUIRE(spawner.ok());
  // The user shows its job to the operator, as to a server, and that has work done in it.
  const auto port = publish_port(open.root, "shown");
  Client shows = open.of(ann);
  OpenLink link = open_link(shows, shows.startup("shown"), open.root, port);
  const auto sent = shows.call<wire::LinkSend>(
      {.link = link.client,
       .count = 1,
       .entries = {{shows.hello.job, static_cast<std::uint32_t>(wire::ObjectType::job),
                    rights::act | rights::info, rights::act, 0}}});
  REQUIRE_MESSAGE(sent.ok(), sent.text);
  const auto tenant = sent.reply.handles[0];
  CHECK(open.root.call<wire::HandleInfo>({tenant}).reply.detail == ann);
  wire::SpawnerSpawn::Request request{
      .spawner = spawner.reply.spawner, .tenant = tenant, .name = wire::Name::from("works")};
  std::strcpy(request.arguments, "wait");
  const auto child = open.root.call<wire::SpawnerSpawn>(request);
  REQUIRE_MESSAGE(child.ok(), child.text);
  // Between the clone and the exec it is the kernel itself.
  CHECK(await_uid(child.reply.pid) == ann);
  CHECK(open.root.call<wire::ProcessInfo>({child.reply.process}).reply.uid == ann);
  // It is the user's to see and to end, and nobody else's.
  const auto opened = client.call<wire::ProcessOpen>({client.hello.job, child.reply.process_id});
  REQUIRE(opened.ok());
  Client other = open.of(bob);
  CHECK(other.call<wire::ProcessOpen>({other.hello.job, child.reply.process_id}).code ==
        Code::not_found);
  CHECK(client.call<wire::ProcessSignal>({opened.reply.process, SIGKILL, 0}).ok());
  open.root.await_signal(child.reply.process, wire::signal::exited);
}

TEST_CASE("Users see what is in their own jobs: no process, region, link or job of another") {
  if (!is_root()) return;
  OpenMachine open;
  REQUIRE(open.open_to_users(small) == Code::ok);
  Client one = open.of(ann);
  Client other = open.of(bob);
  const auto region = one.call<wire::RegionCreate>({4096, wire::Name::from("secret"), 0, 0});
  REQUIRE(region.ok());
  std::uint64_t after = 0;
  for (;;) {
    const auto next = other.call<wire::ProcessNext>({other.hello.job, after}).reply;
    if (next.process_id == 0) break;
    CHECK(next.uid == bob);
    after = next.process_id;
  }
  CHECK(after == other.hello.process_id);
  CHECK(other.call<wire::ProcessOpen>({other.hello.job, one.hello.process_id}).code ==
        Code::not_found);
  for (after = 0;;) {
    const auto next = other.call<wire::RegionNext>({other.hello.job, after}).reply;
    if (next.region_id == 0) break;
    CHECK(next.job_id == other.hello.job_id);
    after = next.region_id;
  }
  CHECK(other.call<wire::LinkNext>({other.hello.job, 0}).reply.link_id == 0);
  CHECK(other.call<wire::JobNext>({other.hello.job, other.hello.job_id}).reply.job_id == 0);
  // Handles are numbers in one's own table, whatever another calls his.
  CHECK(other.call<wire::RegionMap>({region.reply.region, 0, 0}).code != Code::ok);
}

TEST_CASE("A user pays with its own quota, over all connections, and nobody else does") {
  if (!is_root()) return;
  OpenMachine open;
  REQUIRE(open.open_to_users(small) == Code::ok);
  Client one = open.of(ann);
  Client two = open.of(ann, "named");
  Client other = open.of(bob);
  const auto take = [](Client& client, std::uint64_t bytes) {
    return client.call<wire::RegionCreate>({bytes, wire::Name::from("taken"), 0, 0}).code;
  };
  CHECK(take(one, 700u << 10) == Code::ok);
  CHECK(take(two, 700u << 10) == Code::quota);
  CHECK(take(other, 700u << 10) == Code::ok);
  Client three = open.of(ann);
  CHECK(open.refusal(ann) == Code::quota);
  CHECK(open.refusal(bob) == Code::ok);
}

TEST_CASE("Connections that say nothing push out those of their own user only") {
  if (!is_root()) return;
  OpenMachine open;
  REQUIRE(open.open_to_users(small) == Code::ok);
  std::vector<Client> silent;
  {
    const As user(bob);
    silent.emplace_back(open.machine.socket_path());
  }
  for (int i = 0; i < 100; ++i) {
    const As user(ann);
    silent.emplace_back(open.machine.socket_path());
  }
  // Bob's is older than all of them, and is served.
  CHECK(silent.front().call<wire::Hello>({wire::abi_version, 0, {}, {}}).ok());
  CHECK(silent[1].is_closed());
}

TEST_CASE("A server is told who its client is: a program, an operator's, or a child of AIOS") {
  if (!is_root()) return;
  OpenMachine open;
  REQUIRE(open.open_to_users(small) == Code::ok);
  Client server = Client::ready(open.machine.socket_path());
  const auto port = publish_port(server, "asks");
  const auto role_of = [&](Client client) {
    const auto made = client.call<wire::PortConnect>({client.startup("asks"), 1});
    REQUIRE(made.ok());
    Mapping half = *Mapping::map(made.fds[0], proto::half_bytes, Mapping::Access::read_write);
    REQUIRE(client.call<wire::LinkReady>({made.reply.link}).ok());
    const auto accepted = server.call<wire::PortAccept>({port});
    REQUIRE(accepted.ok());
    return std::pair(static_cast<wire::PeerRole>(accepted.reply.role), accepted.reply.uid);
  };
  CHECK(role_of(open.of(ann)) == std::pair(wire::PeerRole::program, std::uint32_t{ann}));
  CHECK(role_of(Client::ready(open.machine.socket_path())) ==
        std::pair(wire::PeerRole::operator_program, std::uint32_t{0}));
}
