// The instance's beginning and end, its supervisor, its folder and its socket.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <set>

#include "tests/protocol/kernel/harness.hpp"

using namespace aios;
using namespace aios::test;
using namespace std::chrono_literals;

namespace {

/// Pids whose command line names this state folder.
std::set<pid_t> processes_of(const std::filesystem::path& state) {
  std::set<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::string line(4096, '\0');
    const Fd file(::open((entry.path() / "cmdline").c_str(), O_RDONLY | O_CLOEXEC));
    const auto got = file.valid() ? ::read(file.get(), line.data(), line.size()) : 0;
    if (got > 0 && line.find(state.string()) != std::string::npos) found.insert(std::stoi(name));
  }
  return found;
}

wire::ProcessRecord supervisor_of(Client& client) {
  const auto root = client.startup("root");
  for (std::uint64_t after = 0;;) {
    const auto record = client.call<wire::ProcessNext>({root, after}).reply;
    if (record.process_id == 0 || record.name.view() == "supervisor") return record;
    after = record.process_id;
  }
}

}  // namespace

TEST_CASE("The socket is the owner's alone and the state folder has what belongs there") {
  Machine machine;
  struct stat info {};
  REQUIRE(::stat(machine.socket_path().c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  REQUIRE(::stat((machine.state() / "logs").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0700);
  CHECK(std::filesystem::exists(machine.state() / "lock"));
}

TEST_CASE("Shutdown leaves no process and no socket") {
  Machine machine;
  Client client = Client::ready(machine.socket_path(), "mine");
  wire::ProcessSpawn::Request request{.job = client.hello.job,
                                      .name = wire::Name::from("deaf"),
                                      .image = proto::Text<512>::from(child_binary())};
  const std::string arguments = std::string("deaf") + '\0' + machine.state().string();
  std::memcpy(request.arguments, arguments.data(), arguments.size());
  REQUIRE(client.call<wire::ProcessSpawn>(request).ok());
  CHECK(processes_of(machine.state()).size() >= 2);
  CHECK(machine.stop() == 0);
  CHECK(processes_of(machine.state()).empty());
  CHECK_FALSE(std::filesystem::exists(machine.socket_path()));
  CHECK(client.is_closed());
}

TEST_CASE("The call instance_shutdown ends the instance as a signal does") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  REQUIRE(client.call<wire::InstanceShutdown>({client.startup("root")}).ok());
  CHECK(machine.kernel().wait() == 0);
  CHECK_FALSE(std::filesystem::exists(machine.socket_path()));
}

TEST_CASE("A second signal kills a supervisor that does not end") {
  Machine machine("deaf");
  machine.kernel().signal(SIGTERM);
  REQUIRE(machine.kernel().await_line("shutting down"));
  machine.kernel().signal(SIGINT);
  CHECK(machine.kernel().wait() == 0);
}

TEST_CASE("A supervisor that dies is restarted and finds what it kept") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const auto before = supervisor_of(client);
  REQUIRE(before.process_id != 0);
  REQUIRE(::kill(static_cast<pid_t>(before.pid), SIGKILL) == 0);
  REQUIRE(machine.kernel().await_line("restarting it"));
  const auto after = supervisor_of(client);
  CHECK(after.process_id > before.process_id);
  CHECK(after.epoch == before.epoch + 1);
  CHECK(client.call<wire::InstanceInfo>({}).reply.supervisor_restarts == 1);
}

TEST_CASE("A supervisor that keeps dying ends the instance with an error") {
  const TemporaryFolder folder;
  Program kernel({kernel_binary(), "--state", folder.path(), "--supervisor", child_binary(),
                  "--manifest", "/crash"});
  CHECK(kernel.wait() == 1);
  CHECK(kernel.output().find("too often in a minute") != std::string::npos);
}

TEST_CASE("A supervisor that reports a configuration error ends the instance at once") {
  const TemporaryFolder folder;
  Program kernel({kernel_binary(), "--state", folder.path(), "--supervisor", child_binary(),
                  "--manifest", "/bad-config"});
  CHECK(kernel.wait() == 1);
  CHECK(kernel.output().find("error in the configuration") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "aios.sock"));
}

TEST_CASE("A supervisor that is not there is a clear error") {
  const TemporaryFolder folder;
  Program kernel({kernel_binary(), "--state", folder.path(), "--supervisor", "/nowhere"});
  CHECK(kernel.wait() == 1);
  CHECK(kernel.output().find("/nowhere") != std::string::npos);
}

TEST_CASE("Two instances on one state folder: the second says who holds it") {
  Machine machine;
  Program second({kernel_binary(), "--state", machine.state(), "--supervisor", child_binary()});
  CHECK(second.wait() == 1);
  CHECK(second.output().find("another instance uses this state folder") != std::string::npos);
  CHECK(second.output().find(std::to_string(machine.kernel().pid())) != std::string::npos);
  CHECK(Client::ready(machine.socket_path()).call<wire::InstanceInfo>({}).ok());
}

TEST_CASE("A kernel that was killed leaves no child, and its folder can be used again") {
  const TemporaryFolder folder;
  const std::vector<std::string> arguments = {kernel_binary(), "--state",      folder.path(),
                                              "--supervisor",  child_binary(), "--manifest",
                                              "/deaf"};
  {
    Program first(arguments);
    REQUIRE(first.await_line("serving"));
    first.signal(SIGKILL);
    CHECK(first.wait() == 128 + SIGKILL);
  }
  while (!processes_of(folder.path()).empty()) {
  }
  Program second(arguments);
  REQUIRE(second.await_line("serving"));
  CHECK(Client::ready(folder.path() / "aios.sock").call<wire::InstanceInfo>({}).ok());
  second.signal(SIGTERM);
  second.signal(SIGTERM);
  second.wait();
}

TEST_CASE("A state folder whose socket path is too long for an address works all the same") {
  Machine machine("serve", std::string(90, 'a') + "/" + std::string(90, 'b'));
  CHECK(machine.socket_path().size() > 180);
  CHECK(Client::ready(machine.socket_path()).call<wire::InstanceInfo>({}).ok());
  CHECK(machine.stop() == 0);
  CHECK_FALSE(std::filesystem::exists(machine.socket_path()));
}

TEST_CASE("A wrong command line is explained") {
  Program kernel({kernel_binary(), "--state", "/tmp/x"});
  CHECK(kernel.wait() == 2);
  CHECK(kernel.output().find("usage: aios-kernel") != std::string::npos);
}

TEST_CASE("Hello of another version is a mismatch, and the right one may follow") {
  Machine machine;
  Client client(machine.socket_path());
  const auto refused = client.call<wire::Hello>({99, 0, {}, {}});
  CHECK(refused.code == Code::version_mismatch);
  CHECK(refused.text == "this kernel speaks version " + std::to_string(wire::abi_version));
  CHECK(client.call<wire::Hello>({wire::abi_version, 0, wire::Name::from("a/b"), {}}).code ==
        Code::invalid_argument);
  CHECK(client.call<wire::Hello>({wire::abi_version, 0, {}, {}}).ok());
  CHECK(client.call<wire::Hello>({wire::abi_version, 0, {}, {}}).code == Code::already_exists);
}

TEST_CASE("Hello as long as another version's is a mismatch that says the version, and the end") {
  Machine machine;
  Client client(machine.socket_path());
  std::vector<std::byte> packet(sizeof(wire::CallHeader) + sizeof(wire::Hello::Request) + 8);
  const wire::CallHeader header{wire::Hello::opcode, sizeof(wire::Hello::Request) + 8, 1};
  std::memcpy(packet.data(), &header, sizeof header);
  client.send_raw(packet);
  const auto refused = client.receive<wire::Hello>();
  CHECK(refused.code == Code::version_mismatch);
  CHECK(refused.text == "this kernel speaks version " + std::to_string(wire::abi_version));
  CHECK(client.is_closed());
}

TEST_CASE("Connections that never say hello push out one another, not those who did") {
  Machine machine;
  Client good = Client::ready(machine.socket_path());
  std::vector<Client> silent;
  for (int i = 0; i < 200; ++i) silent.emplace_back(machine.socket_path());
  CHECK(silent.front().is_closed());
  CHECK(good.call<wire::InstanceInfo>({}).ok());
  CHECK(silent.back().call<wire::Hello>({wire::abi_version, 0, {}, {}}).ok());
}

TEST_CASE("A kernel without free descriptors refuses by quota, and recovers when some are closed") {
  const TemporaryFolder folder;
  Program kernel({"/bin/sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\"", kernel_binary(), "--state",
                  folder.path(), "--supervisor", child_binary(), "--manifest", "/serve"});
  REQUIRE(kernel.await_line("serving"));
  const std::string socket = folder.path() / "aios.sock";
  // The supervisor gets the descriptors that it needs to start.
  const auto started = std::chrono::steady_clock::now() + 20s;
  while (Client::ready(socket).startup("served") == 0)
    REQUIRE(std::chrono::steady_clock::now() < started);
  Client first = Client::ready(socket);
  {
    std::vector<Client> crowd;
    Code code = Code::ok;
    while (code == Code::ok && crowd.size() < 60) {
      crowd.emplace_back(socket);
      code = crowd.back().call<wire::Hello>({wire::abi_version, 0, {}, {}}).code;
    }
    CHECK((code == Code::quota || code == Code::peer_closed));
    CHECK(crowd.size() > 3);
    // The crowd may have left a descriptor or two; regions take what is left of the 64.
    code = Code::ok;
    for (int i = 0; i < 64 && code != Code::quota; ++i)
      code = first.call<wire::RegionCreate>({4096, wire::Name::from("r"), 0, 0}).code;
    if (code != Code::quota) kernel.wait();
    REQUIRE_MESSAGE(code == Code::quota, kernel.output());
  }
  const auto root = first.startup("root");
  REQUIRE(root != 0);
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (first.call<wire::JobInfo>({root}).reply.used.processes > 2) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
  }
  CHECK(Client::ready(socket).call<wire::InstanceInfo>({}).ok());
  kernel.signal(SIGTERM);
  CHECK(kernel.wait() == 0);
}

TEST_CASE("An outside program is gone when its last copy of the socket is closed") {
  Machine machine;
  Client observer = Client::ready(machine.socket_path());
  Client client = Client::ready(machine.socket_path(), "gone");
  const auto handle =
      observer.call<wire::ProcessOpen>({observer.startup("root"), client.hello.process_id})
          .reply.process;
  client.hang_up();
  observer.await_signal(handle, wire::signal::exited);
  CHECK(observer.call<wire::ProcessInfo>({handle}).reply.exited == 1);
}

TEST_CASE("The instance counts its processes, regions and links") {
  Machine machine;
  Client client = Client::ready(machine.socket_path());
  const auto before = client.call<wire::InstanceInfo>({}).reply;
  CHECK(before.pid == static_cast<std::uint64_t>(machine.kernel().pid()));
  REQUIRE(client.call<wire::RegionCreate>({4096, wire::Name::from("r"), 0, 0}).ok());
  const auto after = client.call<wire::InstanceInfo>({}).reply;
  CHECK(after.regions == before.regions + 1);
  CHECK(after.region_bytes == before.region_bytes + 4096);
  CHECK(after.processes == 2);
}

namespace {

/// Descriptors on their way from this user to this user, which nobody has read.
class UnreadDescriptors {
 public:
  explicit UnreadDescriptors(int count) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    sender_ = Fd(ends[0]);
    receiver_ = Fd(ends[1]);
    const std::vector<int> fds(static_cast<std::size_t>(count), STDERR_FILENO);
    const Deadline deadline = Deadline::after(room_patience_ns);
    for (;;) {
      const auto sent = send_packet(sender_.get(), std::as_bytes(std::span("x")), fds, 0);
      if (sent) return;
      REQUIRE_MESSAGE(sent.error().code() == Code::quota, sent.error().message());
      REQUIRE_MESSAGE(!deadline.passed(), no_room << sent.error().message());
      wait_for_room();
    }
  }

 private:
  Fd sender_;
  Fd receiver_;
};

/// A kernel that may have 128 descriptors, and whose user so many on their way. It ends when its
/// supervisor cannot start, which others of this user can bring about.
std::unique_ptr<Program> start_limited(const TemporaryFolder& folder) {
  const std::string socket_path = folder.path() / "aios.sock";
  const Deadline deadline = Deadline::after(room_patience_ns);
  for (std::string said;; wait_for_room()) {
    REQUIRE_MESSAGE(!deadline.passed(), no_room << said);
    // Root would be allowed any number.
    auto kernel = std::make_unique<Program>(std::vector<std::string>{
        "/bin/sh", "-c",
        "ulimit -n 128; set -- \"$0\" \"$@\"; test $(id -u) -ne 0 ||"
        "set -- setpriv --bounding-set=-sys_admin,-sys_resource \"$@\"; exec \"$@\"",
        kernel_binary(), "--state", folder.path(), "--supervisor", child_binary(), "--manifest",
        "/serve"});
    REQUIRE_MESSAGE(kernel->await_line("serving"), kernel->output());
    while (!deadline.passed()) {
      auto socket = connect_seqpacket(socket_path);
      if (!socket) break;
      Client client(std::move(*socket));
      const auto greeted = client.greet("", {});
      if (greeted.ok() && client.startup("served") != 0) return kernel;
      REQUIRE_MESSAGE((greeted.ok() || lacks_room(greeted) || greeted.code == Code::peer_closed),
                      greeted.text);
    }
    kernel->signal(SIGTERM);
    kernel->wait();
    said = kernel->output();
  }
}

}  // namespace

TEST_CASE("A process whose user has too many descriptors on their way is told quota, and goes on") {
  const TemporaryFolder folder;
  const auto kernel = start_limited(folder);
  const std::string socket = folder.path() / "aios.sock";
  Client server = Client::ready(socket);
  const wire::Handle port = publish_port(server, "echo");
  Client client = Client::ready(socket);
  const wire::Handle client_port = client.startup("echo");
  const auto made = client.call<wire::RegionCreate>({4096, wire::Name::from("r"), 0, 0});
  REQUIRE(made.ok());
  const auto waiting = call_with_room<wire::PortConnect>(client, {client_port, 1});
  REQUIRE_MESSAGE(waiting.ok(), waiting.text);
  REQUIRE(client.call<wire::LinkReady>({waiting.reply.link}).ok());
  const auto before = client.call<wire::JobInfo>({client.hello.job}).reply.used;
  {
    const UnreadDescriptors unread(200);
    const auto refused = client.call<wire::RegionMap>({made.reply.region, 0, 0});
    CHECK(refused.code == Code::quota);
    CHECK_FALSE(refused.text.empty());
    CHECK(client.call<wire::FileCreate>({}).code == Code::quota);
    CHECK(client.call<wire::PortConnect>({client_port, 1}).code == Code::quota);
    const auto after = client.call<wire::JobInfo>({client.hello.job}).reply.used;
    CHECK(after.handles == before.handles);
    CHECK(after.links == before.links);
    // The connection that was not accepted in the end is over, and its client knows.
    CHECK(server.call<wire::PortAccept>({port}).code == Code::quota);
    client.await_signal(waiting.reply.link, wire::signal::closed);
    Client late(socket);
    CHECK(late.call<wire::Hello>({wire::abi_version, 0, {}, {}}).code == Code::quota);
  }
  const auto mapped = call_with_room<wire::RegionMap>(client, {made.reply.region, 0, 0});
  CHECK_MESSAGE(mapped.ok(), mapped.text);
  const auto channel = call_with_room<wire::FileCreate>(client, {});
  CHECK_MESSAGE(channel.ok(), channel.text);
  open_link(client, client_port, server, port);
  kernel->signal(SIGTERM);
  CHECK(kernel->wait() == 0);
}
